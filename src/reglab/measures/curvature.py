"""Curvature of the training loss: eigenvalues and traces of its Hessian, and sharpness."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from reglab.core.errors import UserError
from reglab.measures.lanczos import Krylov, lanczos
from reglab.measures.matrices import checked_rows, spread_rows
from reglab.measures.measure import Measure, Measured

Tensors = dict[str, Tensor]


class Curvature(Measure):
    """Curvature of the mean training loss at the weights that the run is judged by.

    The Hessian is that of the data's loss alone, without penalties, by all trained parameters, on
    fixed rows of the probe in evaluation mode.

    - ``curvature/hessian_max``, ``curvature/hessian_min``: its outermost eigenvalues, by Lanczos'
      method with full reorthogonalization: the largest from below, the smallest from above
    - ``curvature/hessian_trace`` and its standard error ``_se``: exact on the space that Lanczos'
      method has seen, by random signs (Hutchinson) on the rest; ``curvature/<parameter>/hessian_trace``:
      what a parameter adds to it
    - ``curvature/ggn_trace``, ``_se``: of the generalized Gauss-Newton matrix, the Hessian without the
      curvature of the model's outputs; never below 0 where the loss is convex in them; by random signs
    - ``curvature/sharpness``: the rise of the loss after a step of length ``rho`` along its gradient,
      which is what SAM penalizes; ``curvature/random_sharpness``: its mean rise in random directions
      of that length
    - ``curvature/adaptive_sharpness``: the rise after ASAM's step, in which each parameter moves in
      proportion to its size: what rescales layers and leaves the function does not move it

    Where the loss has kinks (ReLU), derivatives are those of the pieces.

    Args:
        rows: Of the probe, evenly spread; all if it has fewer.
        iterations: Of Lanczos' method.
        probes: Random vectors of the trace, at least 2.
        rho: Length of the step, > 0.
        adaptive_rho: The same of ASAM's, where parameters are 1 long each.
        every: As for ``Measure``.

    Raises:
        ValueError: For a number outside its range.

    Source:
        Lanczos (1950); Hutchinson (1990), A stochastic estimator of the trace; Meyer et al. (2021),
        Hutch++, and Chen & Hallman (2023), Krylov-aware stochastic trace estimation; Foret et al.
        (2021), Sharpness-aware minimization; Kwon et al. (2021), ASAM.
    """

    needs = frozenset({"function"})
    charts = ("curvature/hessian_max", "curvature/hessian_trace", "curvature/sharpness")

    def __init__(
        self,
        rows: int = 512,
        iterations: int = 20,
        probes: int = 10,
        rho: float = 0.05,
        adaptive_rho: float = 0.5,
        every: int | Literal["end"] | None = "end",
    ) -> None:
        super().__init__(every)
        self.rows = checked_rows(rows)
        for name, value, least in (("iterations", iterations, 1), ("probes", probes, 2)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}={value} must be an integer >= {least}")
        for name, length in (("rho", rho), ("adaptive_rho", adaptive_rho)):
            if isinstance(length, bool) or not isinstance(length, (int, float)) or not length > 0:
                raise ValueError(f"{name}={length} must be a number > 0")
        self.iterations, self.probes = iterations, probes
        self.rho, self.adaptive_rho = float(rho), float(adaptive_rho)

    def measure(self, of: Measured, state: dict[str, Tensor]) -> dict[str, Tensor]:
        with differentiated_twice():
            loss = LossAt(of, spread_rows(of.count("train"), self.rows))
            generator = torch.Generator().manual_seed(0)
            start = torch.randn(loss.size, generator=generator).to(loss.flat).expand_as(loss.flat)
            seen = lanczos(loss.times_hessian, start, self.iterations)
            metrics = self._traces(of, loss, seen, generator)
        here, gradient = loss.value(), loss.gradient()
        step = gradient / gradient.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
        rises = []
        for _ in range(self.probes):
            direction = torch.randn(loss.size, generator=generator).to(loss.flat)
            rises.append(loss.value(self.rho * direction / direction.norm()) - here)
        return metrics | {
            "curvature/hessian_max": seen.high,
            "curvature/hessian_min": seen.low,
            "curvature/sharpness": loss.value(self.rho * step) - here,
            "curvature/random_sharpness": torch.stack(rises).mean(0),
            "curvature/adaptive_sharpness": loss.value(self.adaptive_rho * _adaptive(loss.flat, gradient)) - here,
        }

    def _traces(self, of: Measured, loss: "LossAt", seen: Krylov, generator: torch.Generator) -> dict[str, Tensor]:
        diagonal, hessian, ggn = seen.diagonal.clone(), [], []
        for _ in range(self.probes):
            signs = torch.randint(0, 2, (loss.size,), generator=generator).to(loss.flat).mul(2).sub(1)
            probe = signs.expand_as(loss.flat)
            own = seen.rest(loss.times_hessian(seen.rest(probe))) * probe
            diagonal += own / self.probes
            hessian.append(own.sum(-1))
            ggn.append(loss.ggn_form(probe))
        rest, gauss_newton = torch.stack(hessian), torch.stack(ggn)
        metrics = {
            "curvature/hessian_trace": seen.diagonal.sum(-1) + rest.mean(0),
            "curvature/hessian_trace_se": rest.std(0) / self.probes**0.5,
            "curvature/ggn_trace": gauss_newton.mean(0),
            "curvature/ggn_trace_se": gauss_newton.std(0) / self.probes**0.5,
        }
        if of.per_layer:
            parts = loss.split(diagonal)
            metrics |= {f"curvature/{name}/hessian_trace": part.sum(-1) for name, part in parts.items()}
        return metrics

    def row_passes(self, rows: int) -> float:
        # A gradient once, then a backward pass through it for each product.
        products = self.iterations + 2 * self.probes
        return (6.0 * products + 3 + 3 + 3 + self.probes) * min(self.rows, rows)


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
        self._linear: Linearized | None = None

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

    def ggn_form(self, vectors: Tensor) -> Tensor:
        """Return ``v' J' H J v`` of ``vectors``, ``[members]``: J of the outputs by the parameters, H of
        the loss by the outputs.
        """
        if self._linear is None:
            self._linear = self._linearize()
        found = self._linear
        with torch.enable_grad():
            product = (found.gradient * vectors).sum()
            (moved,) = torch.autograd.grad(product, found.dual, retain_graph=True)  # J v, linear in the dual
            if not found.output_gradient.requires_grad:  # of a loss that is linear in the outputs
                return vectors.new_zeros(len(vectors))
            (bent,) = torch.autograd.grad((found.output_gradient * moved).sum(), found.outputs, retain_graph=True)
        form: Tensor = (moved * bent).flatten(1).sum(-1).to(vectors)
        return form

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the part of ``flat``, ``[members, size]``, that belongs to each parameter, by its name."""
        parts = torch.split(flat, [shape.numel() for shape in self._shapes.values()], 1)
        return dict(zip(self._shapes, parts, strict=True))

    def _linearize(self) -> "Linearized":
        with torch.enable_grad():
            point = self.flat.clone().requires_grad_()
            outputs = self._of.outputs("train", self._rows, self._parameters(point))
            dual = torch.zeros_like(outputs, requires_grad=True)
            (gradient,) = torch.autograd.grad(outputs, point, dual, create_graph=True)
            _check_differentiable(gradient)
            at = outputs.detach().requires_grad_()
            targets, task = self._of.targets("train", self._rows), self._of.task
            if len(targets) == 1:
                losses = task.losses(task.align(at, targets[0]), targets[0])
            else:
                pairs = zip(at, targets, strict=True)
                losses = torch.stack([task.losses(task.align(own, wanted), wanted) for own, wanted in pairs])
            (output_gradient,) = torch.autograd.grad(losses.mean(-1).sum(), at, create_graph=True)
        return Linearized(gradient, dual, at, output_gradient)

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
        return self._of.losses("train", self._rows, self._parameters(flat)).mean(-1)

    def _parameters(self, flat: Tensor) -> Mapping[str, Tensor]:
        parts = self.split(flat)
        return {name: parts[name].reshape(-1, *shape).to(self._dtypes[name]) for name, shape in self._shapes.items()}


class Linearized(NamedTuple):
    """The outputs to the first order in the parameters, and the gradient of the loss by the outputs.

    Attributes:
        gradient: ``J' dual``, ``[members, size]``.
        dual: 0, of the outputs' shape.
        outputs: ``[members, rows, ...]``.
        output_gradient: Of the mean loss by ``outputs``.
    """

    gradient: Tensor
    dual: Tensor
    outputs: Tensor
    output_gradient: Tensor


def _adaptive(flat: Tensor, gradient: Tensor) -> Tensor:
    """Return ASAM's direction, ``T^2 g / |T g|`` with ``T`` the sizes of the parameters."""
    scaled = flat.abs() * gradient
    length = scaled.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)
    direction: Tensor = flat.abs() * scaled / length
    return direction


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
