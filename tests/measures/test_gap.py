import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch

from reglab import draws
from reglab.errors import UserError
from reglab.measures import Bootstrap, Evaluation, example_losses
from reglab.measures.gap import resampling_weights

TASKS = ["classification", "binary", "multilabel", "regression"]


def evaluation(task, rows, noise, seed, members=(), dtype=torch.float64):
    """A model of which the outputs miss the targets by ``noise``."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if task == "classification":
        targets = torch.randint(0, 4, (rows,), generator=generator)
        outputs = torch.nn.functional.one_hot(targets, 4) + noise * normal(*members, rows, 4)
    else:
        columns = {"binary": 1, "multilabel": 3, "regression": 2}[task]
        hidden = normal(rows, columns)
        targets = (hidden if task == "regression" else (hidden > 0).float()).squeeze(-1)
        outputs = hidden + noise * normal(*members, rows, columns)
    outputs = outputs.to(dtype)
    return Evaluation(example_losses(outputs, targets, task), outputs, targets)


def pair(task, members=(), dtype=torch.float64):
    return evaluation(task, 80, 0.3, 1, members, dtype), evaluation(task, 60, 0.9, 2, members, dtype)


def score(task, outputs, targets):
    """The score by scikit-learn and numpy, of plain arrays."""
    if task == "regression":
        return sklearn.metrics.r2_score(targets, outputs)
    if task == "classification":
        return sklearn.metrics.accuracy_score(targets, outputs.argmax(1))
    return ((outputs > 0) == (targets.reshape(outputs.shape) > 0.5)).mean()


@pytest.mark.parametrize("task", TASKS)
def test_equals_a_loop_that_repeats_the_rows_of_each_resample(task):
    train, val = pair(task)
    boot = Bootstrap(80, 60, resamples=40, seed=5, level=0.8)
    gaps = []
    for resample in range(40):
        repeated = []
        for part, weights in ((train, boot.train), (val, boot.val)):
            counts = (weights[:, resample].double() * len(weights)).round().long()
            chosen = np.repeat(np.arange(len(weights)), counts.numpy())
            arrays = [values.numpy()[chosen] for values in part]
            repeated.append((arrays[0].mean(), score(task, arrays[1], arrays[2])))
        gaps.append((repeated[1][0] - repeated[0][0], repeated[0][1] - repeated[1][1]))
    low, high = np.quantile(np.array(gaps), [0.1, 0.9], axis=0)
    name = "r2" if task == "regression" else "accuracy"
    measured = {key: value.item() for key, value in boot.gap(train, val, task).items()}
    expected = {"gap/loss_low": low[0], "gap/loss_high": high[0]}
    expected |= {f"gap/{name}_low": low[1], f"gap/{name}_high": high[1]}
    assert {key: measured[key] for key in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_points_are_plain_means_and_their_differences(task):
    train, val = pair(task)
    name = "r2" if task == "regression" else "accuracy"
    train_score, val_score = (score(task, part.outputs.numpy(), part.targets.numpy()) for part in (train, val))
    expected = {
        "train/loss": train.losses.numpy().mean(),
        "val/loss": val.losses.numpy().mean(),
        "gap/loss": val.losses.numpy().mean() - train.losses.numpy().mean(),
        "val/loss_se": scipy.stats.sem(val.losses.numpy()),
        f"train/{name}": train_score,
        f"val/{name}": val_score,
        f"gap/{name}": train_score - val_score,
    }
    measured = {key: value.item() for key, value in Bootstrap(80, 60).gap(train, val, task).items()}
    intervals = {f"gap/{kind}_{end}" for kind in ("loss", name) for end in ("low", "high")}
    assert set(measured) == set(expected) | intervals | {f"val/{name}_se"}
    assert {key: measured[key] for key in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_members_are_measured_each_by_itself(task):
    train, val = pair(task, members=(3,))
    boot = Bootstrap(80, 60)
    together = boot.gap(train, val, task)
    for member in range(3):
        alone = boot.gap(*(Evaluation(p.losses[member], p.outputs[member], p.targets) for p in (train, val)), task)
        for key, value in alone.items():
            assert together[key].shape == (3,)
            torch.testing.assert_close(together[key][member], value, atol=1e-6, rtol=0)


def test_interval_agrees_with_scipys_bootstrap():
    train, val = pair("regression")
    ours = Bootstrap(80, 60, resamples=8000).gap(train, val, "regression")
    theirs = scipy.stats.bootstrap(
        (val.losses.numpy(), train.losses.numpy()),
        lambda after, before, axis: after.mean(axis) - before.mean(axis),
        method="percentile",
        n_resamples=8000,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    tolerance = 0.1 * theirs.standard_error  # the quantiles of 8000 resamples vary by 0.03 standard errors
    assert ours["gap/loss_low"].item() == pytest.approx(theirs.confidence_interval.low, abs=tolerance)
    assert ours["gap/loss_high"].item() == pytest.approx(theirs.confidence_interval.high, abs=tolerance)


def test_interval_agrees_with_normal_theory_for_many_rows():
    train, val = (evaluation("binary", 2000, noise, seed) for noise, seed in ((0.3, 1), (1.0, 2)))
    measured = Bootstrap(2000, 2000, resamples=2000, level=0.9).gap(train, val, "binary")
    shares = [measured[f"{part}/accuracy"].item() for part in ("train", "val")]
    error = sum(share * (1 - share) / 2000 for share in shares) ** 0.5
    half = scipy.stats.norm.ppf(0.95) * error
    gap = shares[0] - shares[1]
    assert measured["gap/accuracy_low"].item() == pytest.approx(gap - half, abs=0.15 * error)
    assert measured["gap/accuracy_high"].item() == pytest.approx(gap + half, abs=0.15 * error)
    val_error = (shares[1] * (1 - shares[1]) / 2000) ** 0.5
    assert measured["val/accuracy_se"].item() == pytest.approx(val_error, rel=0.1)


def test_interval_covers_the_true_gap_at_its_nominal_rate():
    generator = torch.Generator().manual_seed(7)
    studies, rows, targets = 2000, 200, torch.ones(200)

    def part(loss, accuracy):
        losses = loss * torch.empty(studies, rows).exponential_(generator=generator)  # skewed, as losses are
        right = torch.rand(studies, rows, 1, generator=generator) < accuracy
        return Evaluation(losses, torch.where(right, 1.0, -1.0), targets)

    measured = Bootstrap(rows, rows).gap(part(0.4, 0.95), part(1.0, 0.8), "binary")
    for key, truth in (("gap/loss", 0.6), ("gap/accuracy", 0.15)):
        covered = (measured[f"{key}_low"] <= truth) & (truth <= measured[f"{key}_high"])
        assert 0.93 < covered.float().mean().item() < 0.965  # of 2000: standard error 0.005


def test_weights_are_counts_of_draws_with_replacement():
    weights = resampling_weights(50, 4000, draws.key(3))
    counts = (weights * 50).double().numpy()
    assert np.array_equal(counts.round(), counts.round(4))
    assert np.allclose(counts.sum(0), 50)
    observed = np.bincount(counts.round().astype(int).ravel(), minlength=8)
    chances = scipy.stats.binom(50, 1 / 50).pmf(np.arange(8))
    observed, chances = np.append(observed[:5], observed[5:].sum()), np.append(chances[:5], 1 - chances[:5].sum())
    assert np.allclose(observed / counts.size, chances, atol=0.002)
    assert scipy.stats.chisquare(counts.sum(1)).pvalue > 1e-3
    assert np.abs(np.corrcoef(counts)[np.triu_indices(50, 1)] + 1 / 49).max() < 0.08  # multinomial, else independent


def test_weights_do_not_depend_on_how_many_are_drawn_at_a_time(monkeypatch):
    whole = resampling_weights(30, 20, draws.key(1))
    monkeypatch.setattr("reglab.measures.gap._CELLS", 100)
    assert torch.equal(resampling_weights(30, 20, draws.key(1)), whole)


def test_intervals_are_those_of_the_seed_whatever_the_global_generator():
    train, val = pair("classification")
    torch.manual_seed(1)
    first = Bootstrap(80, 60, seed=4).gap(train, val, "classification")
    torch.manual_seed(2)
    again = Bootstrap(80, 60, seed=4).gap(train, val, "classification")
    other = Bootstrap(80, 60, seed=5).gap(train, val, "classification")
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert first["gap/loss_low"] != other["gap/loss_low"]


def test_float32_keeps_the_interval_of_large_losses():
    train, val = pair("regression")
    shifted = [Evaluation(part.losses + 1e4, part.outputs, part.targets) for part in (train, val)]
    single = [Evaluation(part.losses.float(), part.outputs.float(), part.targets.float()) for part in shifted]
    boot = Bootstrap(80, 60)
    measured, expected = boot.gap(*single, "regression"), boot.gap(train, val, "regression")
    for key in ("gap/loss_low", "gap/loss_high"):
        assert measured[key].dtype == torch.float32
        assert measured[key].item() == pytest.approx(expected[key].item(), abs=5e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"train_rows": 1, "val_rows": 9}, "at least 2 rows"),
        ({"train_rows": 9, "val_rows": 9, "resamples": 1}, "2 resamples, got 9 rows and 1"),
        ({"train_rows": 9, "val_rows": 9, "level": 95}, "measure.level=95 must be between 0 and 1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        Bootstrap(**options)


def test_both_sides_are_resampled_independently():
    boot = Bootstrap(200, 200, resamples=100)
    sides = np.corrcoef(boot.train.flatten().numpy(), boot.val.flatten().numpy())
    assert abs(sides[0, 1]) < 0.03  # standard error 0.007


@pytest.mark.parametrize("task", TASKS)
def test_a_diverged_model_measures_as_nan_without_an_error(task):
    train, val = pair(task)
    outputs = torch.full_like(val.outputs, float("nan"))
    lost = Evaluation(example_losses(outputs, val.targets, task), outputs, val.targets)
    measured = Bootstrap(80, 60).gap(train, lost, task)
    assert all(measured[key].isnan() for key in ("val/loss", "gap/loss", "gap/loss_low", "gap/loss_high"))
    assert measured["train/loss"].isfinite()
