"""Kind of each parameter, by its module: weight, bias, normalization, scale or token."""

import re
from collections.abc import Iterator, Mapping
from typing import Literal
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList

Kind = Literal["weight", "bias", "norm", "scale", "token"]

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
# The names that normalization layers of other libraries have: LayerNorm2d, LlamaRMSNorm,
# GlobalResponseNorm, ...
_NORM_NAME = re.compile(r"(Norm|Normalization)(\d[dD])?$")
_BIAS = re.compile(r"(^|_)bias(es)?(_|$|\d)|^(bias_k|bias_v)$", re.IGNORECASE)
_TOKEN = re.compile(
    r"(^|_)(cls|class|dist|distillation|mask|reg|register|storage)_?(token|tokens|embedding)$"
    r"|(^|_)tokens?$|(^|_)rel_?pos(_[hwt])?$"
    r"|(^|_)pos(ition|itional)?_?(emb|embed|embedding|embeddings|encoding|enc)$",
    re.IGNORECASE,
)
_MATRIX = re.compile(r"weight|kernel|original", re.IGNORECASE)
PARAMETRIZED = "parametrizations"


def parameter_kinds(model: nn.Module) -> dict[str, Kind]:
    """Return the kind of each parameter of ``model``, by its name.

    ========== =========================================================================================
    ``weight`` what multiplies a layer's inputs, two or more axes: ``weight`` of Linear, Bilinear, Conv,
               ConvTranspose; ``weight_ih``, ``weight_hh``, ``weight_hr`` of RNN, LSTM, GRU and their
               cells; ``in_proj_weight``, ``q_proj_weight``, ... of MultiheadAttention; the rows of
               Embedding and EmbeddingBag; a model's own parameters of two or more axes
    ``bias``   whatever its axes: a name with the word ``bias``, such as ``bias_ih_l0``,
               ``in_proj_bias``, MultiheadAttention's ``bias_k`` and ``bias_v`` [1, 1, features],
               ``relative_position_bias_table``
    ``norm``   of BatchNorm, InstanceNorm, SyncBatchNorm, LayerNorm, GroupNorm, RMSNorm, whatever their
               axes, and of a class of another library whose name ends in ``Norm``
    ``scale``  one number a unit: PReLU's factor, weight normalization's magnitude (``original0``,
               ``weight_g``), a temperature [heads, 1, 1], anything else of one axis or none
    ``token``  a learnt input of the model's own: class tokens and position embeddings
               (``cls_token``, ``pos_embed``, ``rel_pos_h``), if they are no nn.Embedding
    ========== =========================================================================================

    A parametrized tensor is of the kind that it would be without
    (``parametrizations.weight.original``). A tied parameter goes by the first of its modules. It is
    what timm, torchvision and nanoGPT decay, but for embeddings, which some of them leave out.
    """
    modules = dict(model.named_modules())
    return {name: _kind(name, tensor, modules) for name, tensor in model.named_parameters()}


_known: WeakKeyDictionary[nn.Module, dict[str, Kind]] = WeakKeyDictionary()


def kinds_of(model: object) -> Mapping[str, Kind]:
    """Return ``parameter_kinds`` of ``model``, found once; of a stand-in for a sharded model what
    it has as ``kinds``.

    Empty for anything else.
    """
    if not isinstance(model, nn.Module):
        kinds: Mapping[str, Kind] = getattr(model, "kinds", {})
        return kinds
    if model not in _known:
        _known[model] = parameter_kinds(model)
    return _known[model]


def forget_kinds(model: nn.Module) -> None:
    """Look at the modules of ``model`` anew: its layers were changed."""
    _known.pop(model, None)


def guessed(name: str, tensor: Tensor) -> Kind:
    """Return the kind of a parameter of which nothing but the name and the axes is known."""
    local_name = name.rpartition(".")[2]
    if _BIAS.search(local_name):
        return "bias"
    if _TOKEN.search(local_name):
        return "token"
    return "weight" if tensor.ndim >= 2 else "scale"


def with_weights(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of ``model`` that own a weight, parametrized or not, in their order."""
    for path, module in model.named_modules():
        if isinstance(module, ParametrizationList) or path.rpartition(".")[2] == PARAMETRIZED:
            continue
        parameters = [*module.named_parameters(recurse=False), *_parametrized(module)]
        if any(_of_module(module, name, tensor) == "weight" for name, tensor in parameters):
            yield path, module


def _parametrized(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, chain in (getattr(module, PARAMETRIZED, None) or {}).items():
        yield name, getattr(chain, "original1" if hasattr(chain, "original1") else "original")


def _kind(name: str, tensor: Tensor, modules: Mapping[str, nn.Module]) -> Kind:
    path, _, local_name = name.rpartition(".")
    module = modules[path]
    if isinstance(module, ParametrizationList):
        owner, _, local_name = path.rpartition(f"{PARAMETRIZED}.")
        magnitude = name.endswith(".original0") and any(isinstance(each, _WeightNorm) for each in module)
        kind = _of_module(modules[owner.removesuffix(".")], local_name, tensor)
        return "scale" if magnitude and kind == "weight" else kind
    while isinstance(module, (nn.ParameterList, nn.ParameterDict)) and path:  # "biases.0": the list's own name counts
        path, _, holder = path.rpartition(".")
        module, local_name = modules[path], holder if local_name.isdigit() else f"{holder}_{local_name}"
    if isinstance(module, nn.Embedding) and _BIAS.search(path.rpartition(".")[2]):
        return "bias"  # T5's relative_attention_bias
    return _of_module(module, local_name, tensor)


def _of_module(module: nn.Module, name: str, tensor: Tensor) -> Kind:
    if isinstance(module, _NORMS) or _NORM_NAME.search(type(module).__name__):
        return "norm"
    if name.endswith("_g") and name.removesuffix("_g") + "_v" in module._parameters:  # nn.utils.weight_norm
        return "scale"
    kind = guessed(name, tensor)
    # A temperature [heads, 1, 1], a gain [1, 1, features]; but a convolution's weight may be [1, 1,
    # 1].
    one_axis = tensor.ndim > 2 and sum(size > 1 for size in tensor.shape) < 2
    return "scale" if kind == "weight" and one_axis and not _MATRIX.search(name) else kind
