"""The lowerings against the library's convolution of each member alone, differentiated by ordinary
autograd.
"""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from reglab.core.errors import UserError
from reglab.training.fused.convolution import DEFAULT, LOWERINGS, choose, lower
from reglab.training.fused.convolution_kernels import Window, convolve, input_gradient, weight_gradient

MEMBERS = 3
EXACT = {"atol": 1e-10, "rtol": 1e-10}
SETTINGS = [
    (planar, stride, kernel, groups, bias)
    for planar in (False, True)
    for stride in (1, 2)
    for kernel in (3, 5)
    for groups in (1, 2)
    for bias in (False, True)
]


def stacked(layer_class, *arguments, rows=4, shape=(4, 9, 7), **options):
    """Return members, their stacked weights, stacked inputs and what to weigh the outputs by."""
    torch.manual_seed(0)
    members = [layer_class(*arguments, **options, dtype=torch.float64) for _ in range(MEMBERS)]
    inputs = torch.randn(MEMBERS, rows, *shape, dtype=torch.float64)
    output_gradients = torch.randn(MEMBERS, *members[0](inputs[0]).shape, dtype=torch.float64)
    weights = {name: value.detach() for name, value in stack_module_state(members)[0].items()}
    return members, weights, inputs, output_gradients


def fused(base, weights, inputs, output_gradients):
    """Return outputs, weight gradients and input gradients of the stacked members."""

    def loss(local, rows, output_gradient):
        outputs = functional_call(base, local, (rows,))
        return (outputs * output_gradient).sum(), outputs

    (local, rows), outputs = vmap(grad(loss, argnums=(0, 1), has_aux=True))(weights, inputs, output_gradients)
    return outputs, local, rows


def solo_gradients(members, inputs, output_gradients):
    """Return the same, member by member."""
    rows = inputs.clone().requires_grad_()
    outputs = torch.stack([member(one) for member, one in zip(members, rows, strict=True)])
    (outputs * output_gradients).sum().backward()
    names = [name for name, _ in members[0].named_parameters()]
    local = {name: torch.stack([member.get_parameter(name).grad for member in members]) for name in names}
    return outputs.detach(), local, rows.grad


def check(members, weights, inputs, output_gradients, lowering):
    expected = solo_gradients(members, inputs, output_gradients)
    base = copy.deepcopy(members[0])
    lower(base, {"": lowering})
    torch.testing.assert_close(fused(base, weights, inputs, output_gradients), expected, **EXACT)


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("planar, stride, kernel, groups, bias", SETTINGS)
def test_each_lowering_equals_the_members_alone(planar, stride, kernel, groups, bias, lowering):
    layer_class, shape = (nn.Conv2d, (4, 9, 7)) if planar else (nn.Conv1d, (4, 11))
    options = {"stride": stride, "padding": kernel // 2, "groups": groups, "bias": bias}
    check(*stacked(layer_class, 4, 6, kernel, shape=shape, **options), lowering)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("lowering", ["unfold", "loop"])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": (2, 3), "stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
        {"kernel_size": (3, 5), "padding": "same", "dilation": 2},
        {"kernel_size": 2, "padding": "same"},
        {"kernel_size": 3, "padding": "valid"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
        {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 4},
        {"kernel_size": 1, "stride": 3},
    ],
    ids=str,
)
def test_unusual_settings_equal_the_members_alone(options, lowering):
    check(*stacked(nn.Conv2d, 4, 4, **options), lowering)


def test_patches_in_several_chunks_equal_the_members_alone():
    members, weights, inputs, output_gradients = stacked(nn.Conv2d, 4, 6, 3, padding=1, groups=2, bias=False)
    outputs, weight_gradients, input_gradients = solo_gradients(members, inputs, output_gradients)
    window = Window(*(1, 1), *(1, 1), *(1, 1), groups=2)
    options = {"window": window, "lowering": "unfold", "chunk": 1}  # a member at a time
    kernel = weights["weight"]
    for computed, expected in (
        (convolve(inputs, kernel, **options), outputs),
        (weight_gradient(output_gradients, inputs, kernel.shape[3:], **options), weight_gradients["weight"]),
        (input_gradient(output_gradients, kernel, inputs.shape[3:], **options), input_gradients),
    ):
        torch.testing.assert_close(computed, expected, **EXACT)


@pytest.mark.parametrize("lowering", ["unfold", "loop"])
def test_compiled_in_one_graph_equals_the_members_alone(lowering):
    members, weights, inputs, output_gradients = stacked(nn.Conv2d, 4, 6, 3, stride=2, padding=1)
    base = copy.deepcopy(members[0])
    lower(base, {"": lowering})
    torch.compiler.reset()
    compiled = torch.compile(lambda *state: fused(base, *state), fullgraph=True, dynamic=False, backend="aot_eager")
    torch.testing.assert_close(
        compiled(weights, inputs, output_gradients), solo_gradients(members, inputs, output_gradients), **EXACT
    )


@pytest.mark.parametrize("lowering", ["unfold", "loop"])
def test_members_that_share_their_inputs(lowering):
    members, weights, inputs, _ = stacked(nn.Conv2d, 4, 6, 3, padding=1)
    base = copy.deepcopy(members[0])
    lower(base, {"": lowering})
    made = vmap(lambda local, rows: functional_call(base, local, (rows,)), in_dims=(0, None))(weights, inputs[0])
    torch.testing.assert_close(made, torch.stack([member(inputs[0]) for member in members]), **EXACT)


@pytest.mark.parametrize("lowering", ["unfold", "loop"])
def test_a_gradient_penalty_can_be_differentiated(lowering):
    members, weights, inputs, _ = stacked(nn.Conv2d, 4, 4, 3, padding=1, stride=2)

    def penalty(base):
        def steepness(local, rows):
            return grad(lambda at: functional_call(base, local, (at,)).sin().sum())(rows).square().sum()

        return vmap(grad(steepness, argnums=(0, 1)))(weights, inputs)

    expected = penalty(members[0])
    lower(members[0], {"": lowering})
    torch.testing.assert_close(penalty(members[0]), expected, **EXACT)


@pytest.mark.parametrize("lowering", ["unfold", "loop"])
def test_lowered_models_copy_pickle_hook_and_keep_their_names(lowering):
    members, _, inputs, _ = stacked(nn.Conv2d, 4, 6, 3)
    model = nn.Sequential(members[0], nn.ReLU())
    names, expected = list(model.state_dict()), model(inputs[0])
    observed = []
    lower(model, {"0": lowering})
    again = pickle.loads(pickle.dumps(members[0]))
    model[0].register_forward_hook(lambda *_: observed.append(1))
    twin = copy.deepcopy(model)
    assert list(model.state_dict()) == names
    for one in (model, twin, nn.Sequential(again, nn.ReLU())):
        torch.testing.assert_close(one(inputs[0]), expected, **EXACT)
    with torch.no_grad():
        twin[0].weight.zero_()
        twin[0].bias.zero_()
    assert not twin(inputs[0]).any()
    assert observed
    torch.testing.assert_close(model(inputs[0][0]), expected[0], **EXACT)


def test_what_is_not_named_goes_back_to_the_library():
    model = nn.Conv2d(4, 6, 3)
    operators = []
    for choices in ({"": "unfold"}, {}):
        lower(model, choices)
        operators.append(
            model(torch.ones(2, 4, 8, 8)).sub(model.bias.view(-1, 1, 1)).grad_fn.next_functions[0][0].name()
        )
    assert operators[0] != operators[1] == "ConvolutionBackward0"


@pytest.mark.parametrize("lowering", ["unfold", "loop"])
def test_autocast_computes_in_its_own_type(lowering):
    model = nn.Conv2d(4, 6, 3)
    lower(model, {"": lowering})
    with torch.autocast("cpu", torch.bfloat16):
        assert model(torch.randn(2, 4, 8, 8)).dtype == torch.bfloat16


def test_a_wrong_path_or_lowering_names_the_nearest():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 1, 3))
    with pytest.raises(UserError, match=r"no Conv1d or Conv2d at '1' to lower; .*0"):
        lower(model, {"1": "loop"})
    with pytest.raises(UserError, match=r"'unfolded' of 0 is unknown; did you mean 'unfold'"):
        lower(model, {"0": "unfolded"})


def test_the_fastest_lowering_is_chosen_for_each_layer_and_like_layers_are_measured_once():
    """The clock is given: what each run seems to have taken is set by the lowering that it was."""

    def timer(layer, lowering, *_):
        measured.append(layer)
        return lambda: float(lowering != ("loop" if layer.kernel == (1, 1) else "unfold"))

    measured = []
    layers = [nn.Conv2d(1, 4, 3, padding=1), *(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)), nn.Conv2d(4, 4, 1)]
    made = choose(nn.Sequential(*layers), 4, (2, 1, 8, 8), "cpu", torch.float32, seconds=0.0, timer=timer)
    assert made == {"0": "unfold", "1": "unfold", "2": "unfold", "3": "unfold", "4": "loop"}
    assert len(measured) == 3 * len(LOWERINGS)
    assert len(set(measured)) == 3


def test_choices_come_from_a_real_measurement_and_leave_the_model_alone():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3, padding_mode="reflect", padding=1))
    before = copy.deepcopy(model.state_dict())
    made = choose(model, 3, (2, 1, 8, 8), torch.device("cpu"), torch.float32, seconds=0.01)
    assert made["0"] in LOWERINGS
    assert made["2"] == DEFAULT
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
