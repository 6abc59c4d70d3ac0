"""Law: a pack of any regularizers is a graph that Inductor ends with: what it inlines into one result is bounded.

Inductor computes a pointwise operation anew in each that uses it, until it decides to keep the result. How many
operations that makes of one result is counted here, as the size of the tree that stands behind it: with mixup's share
drawn by plain operations 59 million, and it took minutes; now a few thousand. No clock decides; that these graphs do
compile shows ``scripts/bench/compile_all.py``, and for the main job's own cocktail test_compilation.py.
"""

from collections.abc import Sequence
from functools import cache
from itertools import combinations

import fused_harness as fused
import laws_harness as harness
import pytest
import torch
from torch.fx import Graph, Node

from reglab.core.errors import UserError
from reglab.regularizers import Cocktail, Mixup, Regularizer, overrides
from reglab.training.fused.pack import Pack
from rng.test_beta import plain_beta

MOST = 10_000  # operations behind one result; dropout has 3,241
MOST_NODES = 600  # of one method; sam, which takes the gradient twice, has 565
TOGETHER = 5  # methods in one cocktail of the covering array
PASSED_ON = {"_to_copy", "_unsafe_view", "alias", "clone", "detach", "expand", "permute", "select", "slice", "squeeze"}
PASSED_ON |= {"transpose", "unsqueeze", "view"}


def largest_tree(graph: Graph) -> int:
    """Return how many pointwise operations are inlined into one result at most, each as often as it is used."""
    sizes: dict[Node, int] = {}
    for node in graph.nodes:
        used: list[Node] = []
        torch.fx.node.map_arg((node.args, node.kwargs), used.append)
        behind = sum(sizes[each] for each in used)
        pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ())
        name = node.target._schema.name.rpartition("::")[2] if hasattr(node.target, "_schema") else ""
        sizes[node] = behind + 1 if pointwise else behind if name in PASSED_ON else 0  # else it is kept, or an input
    return max(sizes.values())


def members(*names: str) -> dict[str, Regularizer]:
    return {key: each for name in names for key, each in harness.members(name).items()}


@cache
def traced(*names: str) -> Graph:
    """Return the step of a pack of two members with these methods."""
    return traced_pack([members(*names) for _ in range(2)])


def traced_pack(cocktails: Sequence[dict[str, Regularizer]]) -> Graph:
    """Return the step of a pack, each member with its regularizers."""
    jobs = []
    for seed, each in enumerate(cocktails):
        jobs.append(fused.job(each, seed=seed, precision="32-true", model=fused.net(seed, dtype=torch.float32)))
    pack = Pack(jobs)
    pack.to(torch.device("cpu"))
    graph: Graph = pack.graph(next(iter(pack.loader))[0])._trace.graph
    return graph


def together(names: tuple[str, ...]) -> bool:
    """Whether a cocktail may have all of these."""
    try:
        Cocktail(members(*names), 0, "classification")
    except UserError:
        return False
    return True


def covering() -> list[tuple[str, ...]]:
    """Return cocktails in which each pair of methods that may stand together does so at least once."""
    names = [name for name in harness.NAMES if harness.node(name)]
    open_ = {pair for pair in combinations(names, 2) if together(pair)}
    rows: list[tuple[str, ...]] = []
    while open_:
        row = min(open_)
        while len(row) < TOGETHER:
            fits = [tuple(sorted((*row, name))) for name in names if name not in row]
            fits = [each for each in fits if together(each)]
            best = max(fits, key=lambda each: len(open_ & set(combinations(each, 2))), default=row)
            if best == row:
                break
            row = best
        rows.append(row)
        open_ -= set(combinations(row, 2))
    return rows


ROWS = covering()


def test_the_covering_array_is_small() -> None:
    assert len(ROWS) <= 40


def nodes(name: str) -> int:
    return len(traced(name).nodes)


@pytest.mark.parametrize("name", harness.NAMES)
def test_what_a_method_adds_to_the_step_is_bounded(name: str) -> None:
    assert nodes(name) <= MOST_NODES
    assert largest_tree(traced(name)) <= MOST


@pytest.mark.parametrize("names", ROWS, ids="+".join)
def test_methods_together_add_what_each_adds_alone(names: tuple[str, ...]) -> None:
    """Twice that beside a method that takes the gradient twice; a tenth more is for what joins them."""
    graph, bare = traced(*names), nodes("none")
    again = [name for name in names if any(overrides(m, "on_gradient") for m in harness.members(name).values())]
    others = sum(nodes(name) - bare for name in names if name not in again)
    assert len(graph.nodes) <= bare + sum(nodes(name) - bare for name in again) + 1.1 * (1 + len(again)) * others
    assert largest_tree(graph) <= MOST


def test_the_bound_finds_the_form_that_took_minutes() -> None:
    class Plain(Mixup):
        def share(self) -> torch.Tensor:
            return plain_beta(self.strength, self.keys.stream(self.name))

    assert largest_tree(traced_pack([{"mixup": Plain(0.2)} for _ in range(2)])) > 1000 * MOST
