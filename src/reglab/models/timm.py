"""Image models of the ``timm`` package, by name."""

from typing import Any, ClassVar

from torch import Tensor, nn

from reglab.core.errors import UserError, nearest
from reglab.models.optional import imported

# Each reads weights from a file or address that a config names, whoever wrote the config.
_REFUSED = frozenset({"cache_dir", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"})


class Timm(nn.Module):
    """Map images ``[rows, channels, height, width]`` to ``[rows, outputs]`` by
    ``timm.create_model``.

    Args:
        name: Of a model that timm registers, such as ``resnet50`` or ``vit_tiny_patch16_224``.
        pretrained: Start from timm's own weights for that name, which are downloaded; else from
            random ones.
        in_chans, num_classes: Filled in from the data.
        options: Those of the model, such as ``drop_path_rate``, or ``img_size`` where it must know
            the size of the images.

    Raises:
        UserError: If timm is missing, knows no such model, or cannot get the weights.

    Source:
        Wightman (2019), PyTorch image models.
    """

    reads: ClassVar[str] = "image"

    def __init__(
        self, name: str | None = None, pretrained: bool = False, *, in_chans: int, num_classes: int, **options: Any
    ):
        super().__init__()
        if name is None:
            raise UserError("model.name is not set: name a model of timm, such as model.name=resnet50")
        timm = imported("timm")
        if not timm.is_model(name):
            hint = nearest(name.partition(".")[0], timm.list_models())
            hint = hint if hint.startswith("did") else "timm.list_models() lists them"
            raise UserError(f"model.name={name} is no model of timm; {hint}")
        for option in _REFUSED & options.keys():
            raise UserError(
                f"model.{option} is not passed on to timm: it would let a config read any file; to start from your own "
                "weights, wrap the model in a class of yours (model=custom)"
            )
        try:
            self.net: nn.Module = timm.create_model(
                name, pretrained=pretrained, in_chans=in_chans, num_classes=num_classes, **options
            )
        except (RuntimeError, OSError, AssertionError) as error:
            advice = "; model.pretrained=false needs no download" if pretrained else ""
            raise UserError(f"model: timm cannot make {name} ({str(error).splitlines()[0]}){advice}") from error

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.net(inputs)
        return outputs
