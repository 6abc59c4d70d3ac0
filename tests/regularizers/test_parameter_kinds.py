"""What kind each parameter of torch.nn is: every module that has some is built, and listed here by
hand.
"""

import inspect

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from reglab.regularizers.parameter_kinds import guessed, kinds_of, parameter_kinds, with_weights
from reglab.regularizers.select import chosen, selected

CONVS = {
    f"{lazy}{kind}{axes}d": (4, 4, 3) for lazy in ("",) for kind in ("Conv", "ConvTranspose") for axes in (1, 2, 3)
}
BUILT = CONVS | {
    **{f"BatchNorm{axes}d": (4,) for axes in (1, 2, 3)},
    "AdaptiveLogSoftmaxWithLoss": (8, 10, [4]),
    "Bilinear": (3, 4, 5),
    "Embedding": (10, 4),
    "EmbeddingBag": (10, 4),
    "GRU": (3, 4),
    "GRUCell": (3, 4),
    "GroupNorm": (2, 4),
    "LSTM": (3, 4, 1, True, False, 0.0, False, 2),  # with a projection: weight_hr
    "LSTMCell": (3, 4),
    "LayerNorm": ([4, 8, 8],),
    "Linear": (3, 4),
    "MultiheadAttention": (8, 2, 0.0, True, True, False, 6, 5),  # with bias_k, bias_v and three projections
    "PReLU": (4,),
    "RMSNorm": ([4, 8],),
    "RNN": (3, 4),
    "RNNCell": (3, 4),
    "SyncBatchNorm": (4,),
    "Transformer": (8, 2, 1, 1, 16),
    "Unflatten": (1, (2, 2)),
    "TransformerDecoderLayer": (8, 2, 16),
    "TransformerEncoderLayer": (8, 2, 16),
}
OPTIONS = {f"InstanceNorm{axes}d": {"affine": True} for axes in (1, 2, 3)} | {
    f"FractionalMaxPool{axes}d": {"output_size": 2} for axes in (2, 3)
}
OPTIONS["Transformer"] = {"batch_first": True}
NOT_BUILT = {  # of other layers, or not yet of any size; the bases of what is here
    *(
        "Container",
        "Module",
        "ModuleDict",
        "ModuleList",
        "ParameterDict",
        "ParameterList",
        "Sequential",
        "DataParallel",
    ),
    *("RNNBase", "RNNCellBase", "TransformerDecoder", "TransformerEncoder", "NLLLoss2d"),
}
RECURRENT = ("weight_ih", "weight_hh", "weight_hr")
# By hand, for each module: which parameters are weights, norms, scales. All others that it has must
# be biases.
WEIGHTS = {
    **{key: {"weight"} for key in [*CONVS, "Bilinear", "Embedding", "EmbeddingBag", "Linear"]},
    **{key: {"weight_ih", "weight_hh"} for key in ["GRUCell", "LSTMCell", "RNNCell"]},
    **{key: {"weight_ih_l0", "weight_hh_l0"} for key in ["GRU", "RNN"]},
    "LinearCrossEntropyLoss": {"linear.weight"},  # since torch 2.13
    "LSTM": {"weight_ih_l0", "weight_hh_l0", "weight_hr_l0"},
    "MultiheadAttention": {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"},
    "AdaptiveLogSoftmaxWithLoss": {"head.weight", "tail.0.0.weight", "tail.0.1.weight"},
    "TransformerEncoderLayer": {
        "self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight",
    },
    "TransformerDecoderLayer": {
        "self_attn.in_proj_weight", "self_attn.out_proj.weight", "multihead_attn.in_proj_weight",
        "multihead_attn.out_proj.weight", "linear1.weight", "linear2.weight",
    },
}  # fmt: skip
NORM_PARTS = ("norm.", "norm1.", "norm2.", "norm3.")
NORMS = {
    *(f"{kind}Norm{axes}d" for kind in ("Batch", "Instance") for axes in (1, 2, 3)),
    *("SyncBatchNorm", "LayerNorm", "GroupNorm", "RMSNorm"),
}


def buildable():
    """Return an instance of each module with parameters, by the name of its class."""
    actual = {}
    for name, cls in vars(nn).items():
        if not (inspect.isclass(cls) and issubclass(cls, nn.Module)) or name in NOT_BUILT or name.startswith("Lazy"):
            continue
        arguments = BUILT.get(name, (4,) if name in OPTIONS else None)
        if arguments is None:  # of a class without parameters, if the lists above are whole
            required = [p for p in inspect.signature(cls).parameters.values() if p.default is p.empty]
            arguments = [2] * sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in required)
        module = cls(*arguments, **OPTIONS.get(name, {}))
        if list(module.parameters()):
            actual[name] = module
    return actual


MODULES = buildable()


def expected(module, name, parameter):
    if name == "Transformer":
        layer = parameter.split(".")
        if parameter.endswith(("encoder.norm.weight", "decoder.norm.weight")) or layer[-2].startswith("norm"):
            return "norm"
        kind = "TransformerEncoderLayer" if layer[0] == "encoder" else "TransformerDecoderLayer"
        return "weight" if ".".join(layer[3:]) in WEIGHTS[kind] else "bias"
    if name in NORMS or parameter.startswith(NORM_PARTS):
        return "norm"
    if name == "PReLU":
        return "scale"
    return "weight" if parameter in WEIGHTS[name] else "bias"


def test_there_is_no_other_module_with_parameters():
    assert set(MODULES) == {name for name in {*WEIGHTS, *NORMS, "PReLU", "Transformer"} if hasattr(nn, name)}


@pytest.mark.parametrize("name", MODULES)
def test_each_parameter_of_torch_nn_is_of_its_kind(name):
    module = MODULES[name]
    actual = parameter_kinds(module)
    assert actual == {parameter: expected(module, name, parameter) for parameter in actual}
    assert len(actual) == len(list(module.named_parameters()))


@pytest.mark.parametrize("name", MODULES)
def test_weights_are_what_is_selected_in_a_model_and_in_a_stand_in_for_it(name):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = MODULES[name]

    model = Model()
    wanted = [key for key, kind in parameter_kinds(model).items() if kind == "weight"]
    assert [key for key, _ in selected(model, "weights")] == wanted

    class StandIn:
        kinds = parameter_kinds(model)
        named_parameters = model.named_parameters

    assert [key for key, _ in selected(StandIn(), "weights")] == wanted


class LayerNorm2d(nn.Module):
    """As other libraries have them: no class of torch.nn."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 1, 1))
        self.bias = nn.Parameter(torch.zeros(4, 1, 1))


class Own(nn.Module):
    """A user's model with parameters of its own."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 8))
        self.position_embeddings = nn.Parameter(torch.zeros(5, 8))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.bias = nn.Parameter(torch.zeros(4, 1))
        self.rel_pos_h = nn.Parameter(torch.zeros(9, 2))
        self.logit_scale = nn.Parameter(torch.zeros(4, 1, 1))
        self.kernel = nn.Parameter(torch.zeros(8, 8))
        self.gain = nn.Parameter(torch.ones(8))
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(2, 2))])
        self.mixing = nn.ParameterDict({"a": nn.Parameter(torch.zeros(2, 2))})
        self.norm = LayerNorm2d()
        self.relative_attention_bias = nn.Embedding(9, 2)
        self.tokens = nn.Embedding(9, 2)


def test_a_models_own_parameters_go_by_their_names_and_those_of_foreign_normalizations_by_their_class():
    assert parameter_kinds(Own()) == {
        "cls_token": "token",
        "pos_embed": "token",
        "position_embeddings": "token",
        "relative_position_bias_table": "bias",
        "bias": "bias",
        "rel_pos_h": "token",
        "logit_scale": "scale",
        "kernel": "weight",
        "gain": "scale",
        "biases.0": "bias",
        "mixing.a": "weight",
        "norm.weight": "norm",
        "norm.bias": "norm",
        "relative_attention_bias.weight": "bias",
        "tokens.weight": "weight",
    }


@pytest.mark.parametrize("layer", [nn.Conv1d(1, 1, 1), nn.Conv2d(1, 5, 1), nn.ConvTranspose1d(1, 4, 1)])
def test_a_weight_of_a_convolution_is_one_whatever_its_sizes(layer):
    assert parameter_kinds(layer)["weight"] == "weight"


def test_a_magnitude_is_a_scale_and_other_parametrized_weights_stay_weights():
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(3, 4)),
        parametrizations.spectral_norm(nn.Conv1d(3, 4, 2)),
        parametrizations.orthogonal(nn.Linear(4, 4)),
        parametrizations.weight_norm(nn.LayerNorm([4, 4])),
    )
    assert parameter_kinds(model) == {
        "0.bias": "bias",
        "0.parametrizations.weight.original0": "scale",
        "0.parametrizations.weight.original1": "weight",
        "1.bias": "bias",
        "1.parametrizations.weight.original": "weight",
        "2.bias": "bias",
        "2.parametrizations.weight.original": "weight",
        "3.bias": "norm",
        "3.parametrizations.weight.original0": "norm",
        "3.parametrizations.weight.original1": "norm",
    }
    assert [name for name, _ in with_weights(model)] == ["0", "1", "2"]


def test_a_tied_weight_goes_by_its_first_module():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    model[1].weight = model[0].weight
    assert parameter_kinds(model) == {"0.weight": "weight"}


def test_kinds_are_looked_up_once_and_a_name_that_is_new_is_guessed():
    model = nn.Sequential(nn.LayerNorm([2, 3]))
    assert kinds_of(model) is kinds_of(model)
    model.append(nn.Linear(3, 2))
    assert [name for name, _ in selected(model, "weights")] == ["1.weight"]


def test_of_names_alone_the_kind_is_guessed_and_parts_of_a_selection_add_up():
    tensors = {
        "a.weight": torch.ones(2, 2),
        "a.bias": torch.ones(2, 2),
        "g": torch.ones(2),
        "pos_embed": torch.ones(1, 2),
    }
    assert [guessed(name, tensor) for name, tensor in tensors.items()] == ["weight", "bias", "scale", "token"]
    assert [name for name, _ in chosen(tensors, "weights")] == ["a.weight"]
    assert [name for name, _ in chosen(tensors, "weights a.bias")] == ["a.weight", "a.bias"]
    assert [name for name, _ in chosen(tensors, "g all")] == list(tensors)
