"""Make the gradients of ``nn.Embedding(sparse=True)`` dense where needed."""

from collections.abc import Callable

from torch import nn
from torch.optim import SGD, Optimizer, SparseAdam

from reglab.core.errors import UserError


def with_dense_gradients(model: nn.Module) -> Callable[[], None]:
    """Set ``sparse=False`` on the embeddings of ``model``, and return the undo.

    Outputs stay the same.
    """
    changed = [module for module in model.modules() if isinstance(module, (nn.Embedding, nn.EmbeddingBag))]
    changed = [module for module in changed if module.sparse]
    for module in changed:
        module.sparse = False

    def undo() -> None:
        for module in changed:
            module.sparse = True

    return undo


def takes_sparse(optimizer: Optimizer) -> bool:
    """Return whether the optimizer updates only the rows of a batch under sparse gradients.

    Raises:
        UserError: For SparseAdam, whose other rows have no effective step.
    """
    if isinstance(optimizer, SparseAdam):
        raise UserError(
            "SparseAdam updates only the rows of a batch, and takes no dense gradients, which a model's other weights "
            "have; use Adam, with or without sparse=True"
        )
    group = optimizer.param_groups[0]
    return type(optimizer) is SGD and not (group["momentum"] or group["weight_decay"])
