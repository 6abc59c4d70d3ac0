"""Activations by name, and checks of norms and widths."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.modules import activation as torch_activations

from reglab.core.errors import UserError, nearest

# GLU halves the width, MultiheadAttention and Threshold need arguments, Softmax2d needs images, and
# RReLU draws from a torch.Generator, so that its runs could be neither resumed nor fused.
_UNFIT = {"GLU", "MultiheadAttention", "RReLU", "Softmax2d", "Threshold"}
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    name.lower(): getattr(torch_activations, name) for name in torch_activations.__all__ if name not in _UNFIT
} | {"identity": nn.Identity}


def activation_class(name: str) -> type[nn.Module]:
    """Return the activation of ``torch.nn`` with that name; case and underscores are free
    (``leaky_relu``).

    ``identity`` gives a linear network.

    Raises:
        UserError: Naming the nearest, if there is none.
    """
    activation = _ACTIVATIONS.get(str(name).replace("_", "").lower())
    if activation is None:
        raise UserError(f"activation={name} is not an activation of torch.nn; {nearest(str(name), _ACTIVATIONS)}")
    return activation


def check_norm(norm: str | None) -> None:
    """Raise UserError unless ``norm`` is None, ``batch`` or ``layer``."""
    if norm not in (None, "batch", "layer"):
        raise UserError(f"norm={norm} is unknown; valid: null, batch, layer")


def positive_integers(values: object, name: str) -> list[int]:
    """Return ``values`` (a sequence of sizes) as a list; raises UserError unless all are integers
    >= 1.
    """
    sizes: list[Any] = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    for size in sizes:
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise UserError(f"{name}={values} must be made of integers >= 1, got {size!r}")
    return sizes
