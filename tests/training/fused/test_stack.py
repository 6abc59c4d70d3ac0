"""The stacked state: each member's own, taken out, moved on and put back."""

import fused_harness as fused
import laws_harness as harness
import torch

from reglab.training.fused.pack import Pack
from reglab.training.fused.stack import member_state, torch_optimizer_state


def make(number: int, seed: int):
    optimizer = {**fused.ADAM, "lr": 0.01 * (1 + number)}
    return fused.job(harness.members("ema"), seed=seed, model=fused.net(number), optimizer=optimizer, epochs=2)


def test_a_member_comes_out_as_it_went_in() -> None:
    for seeds in ((0, 1, 2), (4, 4, 4)):
        pack = Pack([make(number, seed) for number, seed in enumerate(seeds)])
        for number, seed in enumerate(seeds):
            solo = make(number, seed)
            model = solo.cocktail.prepare(solo.model.double())
            state = member_state(pack.stack, number, pack.base)
            harness.assert_same_bits(
                {name: tensor for name, tensor in state.items() if name.startswith("model.")},
                {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
            )
            assert int(state["cocktail.keys.seed"]) == seed
        assert pack.stack.numbers["lr"].tolist() == [0.01, 0.02, 0.03]


def test_taken_and_cloned_stacks_share_no_memory() -> None:
    one = Pack([make(number, number) for number in range(3)]).stack
    before = one.clone()
    taken = one.take([2, 0])
    assert len(taken) == 2
    assert torch.equal(taken.weights["model.0.weight"], one.weights["model.0.weight"][[2, 0]])
    for tensors in (*taken.groups().values(), one.clone().shared):
        for tensor in tensors.values():
            tensor.zero_()
    for group, tensors in before.state_dict().items():
        harness.assert_same_bits(tensors, one.state_dict()[group])
    one.load_state_dict(Pack([make(number + 3, number) for number in range(3)]).stack.state_dict())
    assert not torch.equal(one.weights["model.0.weight"], before.weights["model.0.weight"])


def test_torch_optim_goes_on_from_a_members_optimizer_state() -> None:
    pack = fused.together([make(number, number) for number in range(2)]).pack
    solo = fused.alone(make(1, 1))
    theirs, ours = solo._optimizer.state_dict()["state"], torch_optimizer_state(pack.stack, 1, pack.rule, pack.order)
    assert ours.keys() == theirs.keys()
    for number, optimizer_state in theirs.items():
        assert ours[number].keys() == optimizer_state.keys()
        for state_name, tensor in optimizer_state.items():
            torch.testing.assert_close(
                ours[number][state_name], tensor, rtol=1e-6, atol=1e-12, check_dtype=state_name != "step"
            )
