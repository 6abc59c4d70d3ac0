"""Averaged weights while a user's module is validated, tested or asked for predictions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from reglab.distributed.parameters import LocalParameters
from reglab.regularizers import Cocktail


@contextmanager
def averaged_weights(
    cocktail: Cocktail, module: nn.Module, parameters: LocalParameters | None = None
) -> Iterator[None]:
    """A context in which ``module`` has the weights to be evaluated, and its ``state_dict()`` the
    trained ones.

    The trained weights are put back afterwards, bit for bit, also on an exception.

    Args:
        cocktail: Which may keep averaged weights.
        module: Changed within the context.
        parameters: Of the module, as this device holds them; None: whole.
    """
    if not cocktail.averages:
        yield
        return
    # Under every name that a tied weight has: a state dict holds them all.
    trained = {name: weight.detach().clone() for name, weight in module.named_parameters(remove_duplicate=False)}
    trained |= {name: module.get_buffer(name).clone() for name in cocktail.statistics}

    def keep_trained(_: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
        state.update({prefix + name: weight for name, weight in trained.items() if prefix + name in state})

    parameters = parameters or LocalParameters(module)
    hook = module.register_state_dict_post_hook(keep_trained)  # type: ignore[no-untyped-call]  # torch leaves it so
    try:
        parameters.reshard()
        with cocktail.evaluating(parameters.hook_target):
            yield
            parameters.reshard()
    finally:
        hook.remove()
