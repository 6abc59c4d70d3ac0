"""``EachDocument``: score the documents of a query one by one."""

from torch import Tensor, nn

from reglab.core.errors import UserError


class EachDocument(nn.Module):
    """Map ``[queries, documents, ...]`` to ``[queries, documents, outputs]`` by a model of one
    document.

    Args:
        scorer: Maps ``[rows, ...]`` to ``[rows, outputs]``. BatchNorm in it sees the padding of
            shorter queries.

    Raises:
        UserError: For a scorer that is no module.
    """

    def __init__(self, scorer: nn.Module) -> None:
        super().__init__()
        if not isinstance(scorer, nn.Module):
            raise UserError("EachDocument is made around the model of a ranking: choose the model itself, model=mlp")
        self.scorer = scorer

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.scorer(inputs.flatten(0, 1))
        return scores.reshape(*inputs.shape[:2], -1)
