"""Classifiers of the ``transformers`` package, for tokens and images."""

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reglab.core.errors import UserError, nearest
from reglab.models.optional import imported

# Others may name code to be fetched and run, whoever wrote the config.
_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
_REFUSED = frozenset({"auto_map", "quantization_config", "trust_remote_code", "dtype", "torch_dtype"})
_DATA_ALONE = {"trust_remote_code": False}  # left open, transformers asks at the terminal whether to run a model's code
_NO_PADDING = -1  # no token has this id
_IMAGES = "images [channels, height, width] (data.shape=image, where the data set offers it)"


class Transformers(nn.Module):
    """Map tokens ``[rows, length]``, int64, or images ``[rows, channels, height, width]`` to
    ``[rows, outputs]``.

    Tokens equal to the config's ``pad_token_id`` (0 for BERT, none for GPT-2) are masked.

    Args:
        name: A model type, such as ``bert``, ``gpt2`` or ``vit``, with random weights; or, with
            ``pretrained``, a model of the Hugging Face hub or its folder, whose weights
            (safetensors alone, no code) are downloaded, with a new head.
        options: Of its config, such as ``hidden_size``, ``num_hidden_layers``, ``patch_size``,
            ``attn_implementation``.
        input_shape, outputs, vocab_size: Filled in from the data; pretrained models keep their own
            vocabulary.

    Raises:
        UserError: If transformers is missing, or the name or an option is unknown, or the weights
            cannot be had.

    Source:
        Wolf et al. (2020), Transformers: state-of-the-art natural language processing.
    """

    reads: ClassVar[str] = "image"

    def __init__(
        self,
        name: str | None = None,
        pretrained: bool = False,
        *,
        input_shape: tuple[int, ...],
        outputs: int,
        vocab_size: int | None = None,
        **options: Any,
    ):
        super().__init__()
        if name is None:
            raise UserError("model.name is not set: name a model type of transformers, such as model.name=bert")
        transformers = imported("transformers")
        sizes = {"num_labels": outputs}
        if not pretrained:
            _check_type(name, transformers)
            sizes |= _sizes(transformers.AutoConfig.for_model(name), input_shape, vocab_size)
        try:
            if pretrained:
                find = partial(transformers.AutoConfig.from_pretrained, **_DATA_ALONE)
            else:
                find = transformers.AutoConfig.for_model
            _check_options(options, find(name))
            config = find(name, **{**sizes, **options})
            auto_class = _auto_class(config, input_shape, transformers)
            self.net = _pretrained(auto_class, name, config) if pretrained else auto_class.from_config(config)
        except (ValueError, TypeError, RuntimeError, OSError, AssertionError, ZeroDivisionError) as error:
            raise UserError(f"model: transformers cannot make {name}: {' '.join(str(error).split())[:300]}") from error
        self.pad = self.net.config.pad_token_id if len(input_shape) == 1 else None
        self._settle()

    def forward(self, inputs: Tensor) -> Tensor:
        mask = {} if self.pad is None else {"attention_mask": (inputs != self.pad).long()}
        outputs: Tensor = self.net(inputs, **mask).logits
        return outputs

    def _settle(self) -> None:
        config = self.net.config
        if hasattr(config, "use_cache"):
            config.use_cache = False  # keys and values are for generating text, and cost memory here
        if self.pad is None:
            config.pad_token_id = _NO_PADDING  # a causal classifier reads the last token that is none, and asks for one


def _pretrained(auto_class: Any, name: str, config: Any) -> Any:
    """Return the model with its saved weights; those of another shape, such as the head's, are
    drawn anew.
    """
    return auto_class.from_pretrained(
        name, config=config, use_safetensors=True, ignore_mismatched_sizes=True, dtype=torch.float32, **_DATA_ALONE
    )


def _check_type(name: str, transformers: Any) -> None:
    types = transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    if name in types:
        return
    hint = nearest(name, types)
    hint = f" {hint}" if hint.startswith("did") else ""
    raise UserError(
        f"model.name={name} is no model type of transformers;{hint} model.pretrained=true takes names of the hub"
    )


def _sizes(default: Any, shape: tuple[int, ...], vocab_size: int | None) -> dict[str, Any]:
    """Return the sizes that the data fix, of those that this type of model has, and no special
    token beyond them.
    """
    sizes: dict[str, Any] = {}
    if len(shape) == 3:
        side = shape[1] if shape[1] == shape[2] else list(shape[1:])
        sizes = {"num_channels": shape[0], "image_size": side}
    elif vocab_size is not None:
        beyond = {key: at for key, at in default.to_dict().items() if key.endswith("_token_id") and isinstance(at, int)}
        sizes = {"vocab_size": vocab_size, **{key: None for key, at in beyond.items() if at >= vocab_size}}
    return {name: size for name, size in sizes.items() if hasattr(default, name)}


def _check_options(options: dict[str, Any], default: Any) -> None:
    """Raise UserError for an option that the config does not have: transformers would keep and
    ignore it.
    """
    for option, value in options.items():
        if option == "attn_implementation":
            if value not in _ATTENTION:
                raise UserError(f"model.{option}={value}: {nearest(str(value), _ATTENTION)}")
        elif option in _REFUSED or option.startswith("_") or not hasattr(default, option):
            known = [key for key in default.to_dict() if key not in _REFUSED and not key.startswith("_")]
            hint = nearest(option, known)
            raise UserError(f"model.{option} is not an option of {default.model_type} that can be set here; {hint}")


def _auto_class(config: Any, shape: tuple[int, ...], transformers: Any) -> Any:
    """Return the class that adds the head which inputs of this shape need."""
    auto = transformers.models.auto.modeling_auto
    reads_tokens = config.model_type in auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    reads_images = config.model_type in auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    if len(shape) == 1 and reads_tokens:
        return transformers.AutoModelForSequenceClassification
    if len(shape) == 3 and reads_images:
        return transformers.AutoModelForImageClassification
    wanted = [what for reads, what in ((reads_tokens, "tokens [length]"), (reads_images, _IMAGES)) if reads]
    raise UserError(
        f"model: the inputs are {list(shape)}, and a classifier of type {config.model_type} "
        + (f"needs {' or '.join(wanted)}" if wanted else "is not among those of transformers: choose another model")
    )
