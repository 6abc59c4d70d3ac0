"""A traced step does what the function does, again and again."""

import pickle

import pytest
import torch

from reglab.training.fused.graph import Graph, agree
from reglab.training.fused.operations import module_of, namespaces


def moved(state: dict[str, torch.Tensor], rate: torch.Tensor) -> torch.Tensor:
    state["sum"].add_(rate * state["gradient"])
    return state["sum"].square().sum()[None, None]


def state() -> dict[str, torch.Tensor]:
    return {"sum": torch.zeros(3), "gradient": torch.arange(3.0)}


def test_tracing_changes_nothing_and_calls_change_in_place() -> None:
    ours, theirs = state(), state()
    run = Graph(moved, (ours, torch.tensor(0.5)))
    assert torch.equal(ours["sum"], torch.zeros(3))
    for rate in (0.5, 2.0, 0.25):
        assert torch.equal(run(ours, torch.tensor(rate)), moved(theirs, torch.tensor(rate)))
        assert torch.equal(ours["sum"], theirs["sum"])


def test_constants_are_inputs_of_the_trace_and_no_part_of_it() -> None:
    table = torch.arange(6.0)

    def chosen(state: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        return state["sum"].add_(table.index_select(0, rows))

    ours = {"sum": torch.zeros(2)}
    run = Graph(chosen, (ours, torch.tensor([1, 3])))
    assert [each.shape for each in run.layouts(run.flat((ours, torch.tensor([1, 3]))))] == [(6,), (2,), (2,)]
    table.mul_(2)  # it is the tensor itself that is read, not its values at the time of the trace
    assert run(ours, torch.tensor([5, 0])).tolist() == [10.0, 0.0]


def test_operations_make_the_same_graph_elsewhere() -> None:
    """Also what no input stands in, as a range, stays an operation."""

    def ranged(state: dict[str, torch.Tensor], rate: torch.Tensor) -> torch.Tensor:
        counter = torch.arange(3, dtype=torch.float64)
        state["sum"].add_((rate * state["gradient"] * counter).to(torch.float32))
        return torch.cat([state["sum"], counter.float()]).sum()

    ours, theirs = state(), state()
    run = Graph(ranged, (ours, torch.tensor(0.5)))
    sent = pickle.loads(pickle.dumps(run.operations()))
    made = module_of(sent)
    assert made.code == run._trace.code
    rate = torch.tensor(0.3)
    (answer,) = made(*run._constants, *run.flat((theirs, rate)))
    assert torch.equal(run(ours, rate), answer)
    assert torch.equal(ours["sum"], theirs["sum"])
    assert namespaces(sent) == {"aten"}


def test_what_is_compiled_is_taken_only_where_it_computes_the_same() -> None:
    ours, rate = state() | {"sum": torch.full((3,), 9.0)}, torch.tensor(-0.5)
    run = Graph(moved, (ours, rate))
    tensors = run.flat((ours, rate))

    def rounded(total: torch.Tensor, gradient: torch.Tensor, rate: torch.Tensor) -> tuple[torch.Tensor]:
        total.add_(rate * gradient * (1 + 1e-6))
        return (total.square().sum()[None, None],)

    def wrong(total: torch.Tensor, gradient: torch.Tensor, rate: torch.Tensor) -> tuple[torch.Tensor]:
        total.add_(rate * gradient.roll(1) * 0.99)
        return (total.square().sum()[None, None],)

    with pytest.raises(ValueError, match="disagrees"):
        run.adopt(wrong, tensors)
    assert not run.compiled
    run.adopt(rounded, tensors)
    assert run.compiled
    assert torch.equal(ours["sum"], torch.full((3,), 9.0))  # tried on copies


@pytest.mark.parametrize(
    "member, good",
    [
        ([1.0, 0.9, 0.8], True),
        ([1.0, 0.9, 0.80001], True),
        ([1.0, 0.9, 0.81], False),
        ([1.0, 0.9, float("nan")], False),
    ],
)
def test_every_member_must_agree_to_a_thousandth_of_its_loss(member: list[float], good: bool) -> None:
    wanted = torch.tensor([[1.0, 0.9, 0.8], [2.0, 1.5, 1.4]]).T[:, None, :]
    actual = torch.tensor([member, [2.0, 1.5, 1.4]]).T[:, None, :]
    assert agree(actual, wanted) is good


def test_members_that_diverge_need_not_agree() -> None:
    wanted = torch.tensor([[1.0, 3.0, 90.0], [1.0, 5.0, float("inf")], [2.0, 1.5, 1.4]]).T[:, None, :]
    actual = torch.tensor([[1.0, 3.5, 150.0], [1.0, 5.0, float("nan")], [2.0, 1.5, 1.4]]).T[:, None, :]
    assert agree(actual, wanted)
