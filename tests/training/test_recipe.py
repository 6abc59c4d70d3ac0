import math
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from torch import nn

from reglab.core.errors import UserError
from reglab.training.recipe import Recipe, optimizer_config

CONF = Path(__file__).parents[2] / "conf"
SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}
COSINE = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR"}
MODEL = nn.Linear(2, 2, bias=False)


def node_of(path):
    return OmegaConf.to_container(OmegaConf.load(path))


def rates(scheduler, epochs=4, steps_per_epoch=3):
    """The learning rate of every step of a whole run."""
    recipe = Recipe(SGD, scheduler, epochs=epochs)
    optimizer = recipe.build_optimizer(MODEL)
    schedule = recipe.build_schedule(optimizer, steps_per_epoch)
    observed = []
    for step in range(epochs * steps_per_epoch):
        observed.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.advance(inside_epoch=(step + 1) % steps_per_epoch != 0)
    return observed, optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("path", sorted((CONF / "optimizer").glob("[!o]*.yaml")), ids=lambda path: path.stem)  # not own
def test_every_optimizer_of_conf_is_built(path):
    optimizer = Recipe(node_of(path)).build_optimizer(MODEL, dict(MODEL.named_parameters()))
    assert optimizer.param_groups[0]["params"] == [MODEL.weight]


@pytest.mark.parametrize("path", sorted((CONF / "scheduler").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_schedule_of_conf_lasts_a_whole_run_and_reaches_the_given_rate(path):
    node = {key: 0.1 if value == "${optimizer.lr}" else value for key, value in node_of(path).items()}
    recipe = Recipe(SGD, node)
    if not node:
        assert recipe.build_schedule(recipe.build_optimizer(MODEL), 3) is None
        return
    observed, _ = rates(node)
    assert max(observed) == pytest.approx(0.1, rel=0.05)  # that of one cycle lies between two steps
    assert all(0 <= rate <= 0.1 + 1e-12 for rate in observed)


def test_cosine_is_stretched_over_the_run_by_epochs():
    observed, last = rates(COSINE)
    expected = [0.05 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4) for _ in range(3)]
    assert observed == pytest.approx(expected)
    assert last == pytest.approx(0, abs=1e-12)


def test_cosine_is_stretched_over_the_run_by_steps():
    observed, last = rates({**COSINE, "interval": "step"})
    assert observed == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 12)) for step in range(12)])
    assert last == pytest.approx(0, abs=1e-12)


def test_a_period_that_is_given_is_kept():
    observed, _ = rates({**COSINE, "T_max": 8})
    assert observed[-1] == pytest.approx(0.05 * (1 + math.cos(math.pi * 3 / 8)))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, r"data\.batch_size must be an integer >= 1, got 0"),
        ({"batch_size": 2.5}, r"data\.batch_size must be an integer >= 1, got 2\.5"),
        ({"steps_per_batch": -1}, r"trainer\.steps_per_batch must be an integer >= 1, got -1"),
        ({"epochs": 0}, r"trainer\.max_epochs must be an integer >= 1, got 0"),
        ({"clip": 0}, r"trainer\.gradient_clip_norm must be null or > 0, got 0"),
        ({"clip": math.nan}, r"trainer\.gradient_clip_norm must be null or > 0, got nan"),
        ({"optimizer": {**SGD, "lr": 0}}, r"optimizer\.lr must be > 0, got 0"),
        ({"optimizer": {**SGD, "lr": "fast"}}, r"optimizer\.lr must be > 0, got 'fast'"),
        ({"optimizer": {**SGD, "lr": math.nan}}, r"optimizer\.lr must be > 0, got nan"),
    ],
)
def test_bad_values_are_refused_by_the_key_that_the_user_writes(options, message):
    with pytest.raises(UserError, match=message):
        Recipe(**{"optimizer": SGD, **options})


def test_a_misspelt_option_names_the_nearest():
    with pytest.raises(UserError, match=r"optimizer\.momentun: SGD has no such argument; did you mean 'momentum'"):
        Recipe({**SGD, "momentun": 0.9}).build_optimizer(MODEL)


def test_a_value_that_torch_refuses_is_a_user_error():
    with pytest.raises(UserError, match="optimizer: Invalid momentum value"):
        Recipe({**SGD, "momentum": -1}).build_optimizer(MODEL)


def test_an_optimizer_must_be_one():
    with pytest.raises(UserError, match=r"not a subclass of torch\.optim"):
        Recipe({"_target_": "torch.nn.Linear"}).build_optimizer(MODEL)


def test_an_unknown_interval_is_refused():
    recipe = Recipe(SGD, {**COSINE, "interval": "batch"})
    with pytest.raises(UserError, match=r"scheduler\.interval must be step or epoch, got batch"):
        recipe.build_schedule(recipe.build_optimizer(MODEL), 3)


@pytest.mark.parametrize("name, kind", [("sgd", "SGD"), ("Adam", "Adam"), ("ADAMW", "AdamW"), ("rmsprop", "RMSprop")])
def test_an_optimizer_by_name_is_the_one_of_torch(name, kind):
    assert optimizer_config(name, 0.3) == {"_target_": f"torch.optim.{kind}", "lr": 0.3}
    assert optimizer_config(name, None) == {"_target_": f"torch.optim.{kind}"}


def test_an_optimizer_as_a_node_is_copied():
    node = dict(SGD)
    assert optimizer_config(node, None) == SGD
    assert optimizer_config(node, None) is not node


def test_a_learning_rate_beside_a_node_acts_or_is_refused():
    assert optimizer_config("sgd") == {"_target_": "torch.optim.SGD", "lr": 1e-3}
    assert optimizer_config({"_target_": "torch.optim.SGD"}) == {"_target_": "torch.optim.SGD"}
    assert optimizer_config({"_target_": "torch.optim.SGD"}, 0.5)["lr"] == 0.5
    with pytest.raises(UserError, match="differ: give one of them"):
        optimizer_config({"_target_": "torch.optim.SGD", "lr": 0.1}, 0.5)
    with pytest.raises(UserError, match="or a mapping such as"):
        optimizer_config({"lr": 0.1}, 0.5)


def test_an_unknown_optimizer_names_the_nearest():
    with pytest.raises(UserError, match=r"optimizer='adamm' is not in torch\.optim; did you mean 'adam"):
        optimizer_config("adamm", 0.1)
