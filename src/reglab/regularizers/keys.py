"""Keys of random numbers: seed, step, method, site and example."""

import torch
from torch import Tensor, nn

from reglab.rng import counter_rng


class Keys(nn.Module):
    """The state that draws depend on.

    It is in the checkpoint, so a resumed run draws what it would have drawn.

    Args:
        seed, step: int64, 0-dim.

    Attributes:
        index: int64 [rows], the global example numbers of the batch that is being trained on.
    """

    seed: Tensor
    step: Tensor
    index: Tensor | None

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.register_buffer("seed", torch.tensor(seed, dtype=torch.int64))
        self.register_buffer("step", torch.tensor(0, dtype=torch.int64))
        # No buffer: a compiler takes a buffer's address and length for fixed, and these change with
        # the batch.
        self.index = None
        self.calls: dict[tuple[str, str], int] = {}
        self._begins: dict[int, int] = {}  # by identity of a part of a weight: the whole's element that it begins with

    def begin(self) -> None:
        """Count the draws of each site anew, before each gradient: a layer that is called twice in
        it draws twice.
        """
        self.calls.clear()

    def at(self, index: Tensor | None) -> None:
        """Draw for the examples ``index`` from now on, and count the draws of each site anew."""
        self.__dict__["index"] = index  # not through Module.__setattr__, which takes microseconds of each step
        self.begin()

    def begins_at(self, part: Tensor, element: int) -> None:
        """Tell that ``part`` is a part of a weight, from its ``element`` on; it must be this very
        tensor later.
        """
        self._begins[id(part)] = element

    def first_row(self, part: Tensor) -> int:
        """Return which row of the whole weight ``part`` begins with; 0 where it is the whole."""
        return self._begins.get(id(part), 0) // max(1, part.shape[1:].numel()) if part.ndim else 0

    def stream(self, method: str, site: str = "") -> Tensor:
        """Return the key of this step's draws of ``method`` at ``site``: the same on every rank."""
        return counter_rng.key(counter_rng.name_number(method), counter_rng.name_number(site), self.seed, self.step)

    def uniform(self, shape: torch.Size, method: str, site: str = "") -> Tensor:
        """Return uniform float32 numbers of ``shape``, one row of them for each example of the
        batch.

        ``shape`` holds the examples first, or folded with others into the first axis (as [rows *
        tokens, ...]).
        """
        index = self.index if self.index is not None else torch.arange(shape[0], device=self.step.device)
        each = shape.numel() // index.shape[0]
        if shape.numel() != each * index.shape[0]:
            raise ValueError(f"{method} at {site!r}: a shape of {tuple(shape)} does not hold {index.shape[0]} examples")
        call = self.calls.get((method, site), 0)
        self.calls[method, site] = call + 1
        counter = index[:, None] * each + torch.arange(each, device=index.device)
        return counter_rng.uniform(self.stream(method, f"{site}#{call}"), counter).reshape(shape)

    def normal_like(self, weight: Tensor, method: str, site: str = "") -> Tensor:
        """Return standard normal numbers of a parameter's shape and dtype: the same on every rank.

        Where ``weight`` is this rank's part of a sharded one, they are those of its elements in the
        whole.
        """
        first = self._begins.get(id(weight), 0)
        counter = torch.arange(first, first + weight.numel(), device=weight.device)
        return counter_rng.normal(self.stream(method, site), counter).reshape(weight.shape).to(weight.dtype)
