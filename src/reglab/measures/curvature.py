"""Curvature of the training loss: its Hessian's largest and smallest eigenvalue and trace, and sharpness."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from reglab.core.errors import UserError
from reglab.measures.matrices import checked_rows, spread_rows
from reglab.measures.measure import Measure, Measured

Tensors = dict[str, Tensor]


class Curvature(Measure):
    """Curvature of the mean training loss at the weights that the run is judged by.

    The Hessian is that of the data's loss alone, without penalties, by all trained parameters, on
    fixed rows of the probe in evaluation mode.

    - ``curvature/hessian_max``, ``curvature/hessian_min``: its outermost eigenvalues, by Lanczos'
      method with full reorthogonalization: the largest from below, the smallest from above
    - ``curvature/hessian_trace`` and its standard error ``_se``: by random signs (Hutchinson)
    - ``curvature/sharpness``: the rise of the loss after a step of length ``rho`` along its gradient,
      which is what SAM penalizes; ``curvature/random_sharpness``: its mean rise in random directions
      of that length

    Where the loss has kinks (ReLU), derivatives are those of the pieces.

    Args:
        rows: Of the probe, evenly spread; all if it has fewer.
        iterations: Of Lanczos' method.
        probes: Random vectors of the trace, at least 2.
        rho: Length of the step, > 0.
        every: As for ``Measure``.

    Raises:
        ValueError: For a number outside its range.

    Source:
        Lanczos (1950); Hutchinson (1990), A stochastic estimator of the trace; Foret et al. (2021),
        Sharpness-aware minimization.
    """

    needs = frozenset({"function"})
    charts = ("curvature/hessian_max", "curvature/hessian_trace", "curvature/sharpness")

    def __init__(
        self,
        rows: int = 512,
        iterations: int = 20,
        probes: int = 10,
        rho: float = 0.05,
        every: int | Literal["end"] | None = "end",
    ) -> None:
        super().__init__(every)
        self.rows = checked_rows(rows)
        for name, value, least in (("iterations", iterations, 1), ("probes", probes, 2)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}={value} must be an integer >= {least}")
        if isinstance(rho, bool) or not isinstance(rho, (int, float)) or not rho > 0:
            raise ValueError(f"rho={rho} must be a number > 0")
        self.iterations, self.probes, self.rho = iterations, probes, float(rho)

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        with differentiated_twice():
            loss = LossAt(of, spread_rows(of.count("train"), self.rows))
            generator = torch.Generator().manual_seed(0)
            start = torch.randn(loss.size, generator=generator).to(loss.flat).expand_as(loss.flat)
            low, high = extreme_eigenvalues(loss.times_hessian, start, self.iterations)
            traces = []
            for _ in range(self.probes):
                signs = torch.randint(0, 2, (loss.size,), generator=generator).to(loss.flat).mul(2).sub(1)
                traces.append((loss.times_hessian(signs.expand_as(loss.flat)) * signs).sum(-1))
        trace = torch.stack(traces)
        here, gradient = loss.value(), loss.gradient()
        step = gradient / gradient.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
        rises = []
        for _ in range(self.probes):
            direction = torch.randn(loss.size, generator=generator).to(loss.flat)
            rises.append(loss.value(self.rho * direction / direction.norm()) - here)
        return {
            "curvature/hessian_max": high,
            "curvature/hessian_min": low,
            "curvature/hessian_trace": trace.mean(0),
            "curvature/hessian_trace_se": trace.std(0) / self.probes**0.5,
            "curvature/sharpness": loss.value(self.rho * step) - here,
            "curvature/random_sharpness": torch.stack(rises).mean(0),
        }

    def row_passes(self, rows: int) -> float:
        # A gradient once, then a backward pass through it for each product.
        products = self.iterations + self.probes
        return (6.0 * products + 3 + 2 + self.probes) * min(self.rows, rows)


class LossAt:
    """The mean loss of each member on fixed training rows, and its derivatives, as functions of all
    trained parameters as one vector.

    Args:
        of: The models.
        rows: Numbers of the rows.

    Attributes:
        flat: The parameters, ``[members, size]``, in at least float32.
        size: How many a member has.
    """

    def __init__(self, of: Measured, rows: Tensor) -> None:
        self._of, self._rows = of, rows
        self._shapes = {name: value.shape[1:] for name, value in of.parameters.items()}
        self._dtypes = {name: value.dtype for name, value in of.parameters.items()}
        wide = [value.detach().flatten(1) for value in of.parameters.values()]
        self.flat = torch.cat([each.float() if each.dtype.itemsize < 4 else each for each in wide], 1)
        self.size = self.flat.shape[1]
        self._graph: tuple[Tensor, Tensor] | None = None

    def value(self, offset: Tensor | None = None) -> Tensor:
        """Return the loss ``[members]``, at parameters moved by ``offset`` ``[members or 1, size]``."""
        with torch.no_grad():
            return self._loss(self.flat if offset is None else self.flat + offset)

    def gradient(self) -> Tensor:
        """Return the gradient, ``[members, size]``."""
        return self._first()[1].detach()

    def times_hessian(self, vectors: Tensor) -> Tensor:
        """Return the Hessian times ``vectors``, ``[members, size]``."""
        point, gradient = self._first()
        if not gradient.requires_grad:  # of a loss that is linear in the parameters
            return torch.zeros_like(vectors)
        with torch.enable_grad():
            (product,) = torch.autograd.grad((gradient * vectors).sum(), point, retain_graph=True, allow_unused=True)
        return torch.zeros_like(vectors) if product is None else product

    def _first(self) -> tuple[Tensor, Tensor]:
        """Return the point and the gradient there, whose graph is kept: members do not touch each
        other, so that the gradient of the sum of their losses holds each one's.
        """
        if self._graph is None:
            with torch.enable_grad():
                point = self.flat.clone().requires_grad_()
                (gradient,) = torch.autograd.grad(self._loss(point).sum(), point, create_graph=True)
            _check_differentiable(gradient)
            self._graph = point, gradient
        return self._graph

    def _loss(self, flat: Tensor) -> Tensor:
        parts = torch.split(flat, [shape.numel() for shape in self._shapes.values()], 1)
        parameters: Mapping[str, Tensor] = {
            name: part.reshape(-1, *shape).to(self._dtypes[name])
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        return self._of.losses("train", self._rows, parameters).mean(-1)


def _check_differentiable(gradient: Tensor) -> None:
    """Raise RuntimeError where an operation forbids a second derivative: autograd passes over such a
    node without a word where another way leads to the parameters.
    """
    waiting, seen = [gradient.grad_fn], set[Any]()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if "Error" in node.name():
            raise RuntimeError("once differentiable: no second derivative")
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]


def extreme_eigenvalues(times: Callable[[Tensor], Tensor], start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest eigenvalue of a symmetric matrix of each member,
    ``[members]``, by Lanczos' method.

    Args:
        times: Multiplies vectors ``[members, size]`` by it.
        start: The first vector, ``[members, size]``.
        iterations: At most; exact from ``size`` on.

    Source:
        Golub & Van Loan (2013), Matrix computations, section 10.3 (full reorthogonalization).
    """
    steps = min(iterations, start.shape[1])
    basis = [start / start.norm(dim=-1, keepdim=True)]
    projected = start.new_zeros(len(start), steps, steps, dtype=torch.float64)
    for number in range(steps):
        image = times(basis[number])
        stacked = torch.stack(basis, 1)  # [members, vectors, size]
        along = (stacked @ image.unsqueeze(-1)).squeeze(-1)
        projected[:, number, number] = along[:, number].double()
        for _ in range(2):  # twice is enough
            image = image - (stacked.mT @ (stacked @ image.unsqueeze(-1))).squeeze(-1)
        norm = image.norm(dim=-1, keepdim=True)
        if number + 1 < steps:
            scale = along.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(image.dtype).tiny)
            alive = norm > 10 * torch.finfo(image.dtype).eps * scale  # else its space is exhausted
            beta = torch.where(alive, norm, 0.0)
            projected[:, number, number + 1] = projected[:, number + 1, number] = beta.squeeze(-1).double()
            basis.append(torch.where(alive, image / norm.clamp(min=torch.finfo(image.dtype).tiny), 0.0))
    return _ends(projected, torch.stack(basis, 1), start.dtype)


def _ends(projected: Tensor, basis: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(projected)
    # Where the space was exhausted, vectors are 0, and so are eigenvalues that mean nothing.
    real = (basis.norm(dim=-1) > 0).double()
    weight = (vectors.square() * real.unsqueeze(-1)).sum(1) > 0.5
    low = torch.where(weight, values, torch.inf).amin(-1)
    high = torch.where(weight, values, -torch.inf).amax(-1)
    return low.to(dtype), high.to(dtype)


@contextmanager
def differentiated_twice() -> Iterator[None]:
    """A context in which attention has second derivatives.

    Raises:
        UserError: Where another operation of the model has none.
    """
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    except (RuntimeError, NotImplementedError) as error:
        if "deriv" not in str(error) and "double" not in str(error) and "grad" not in str(error):
            raise
        raise UserError(
            f"measure=curvature takes second derivatives, which an operation of this model has not ({error}): leave "
            "curvature out of measure=[...]"
        ) from error
