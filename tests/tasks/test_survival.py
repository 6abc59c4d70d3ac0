"""Cox's loss and the concordance index against loops; their intervals; what a user gives and gets."""

import fused_harness as harness
import numpy as np
import pytest
import torch

import reglab
from reglab.core.errors import UserError
from reglab.measures import MeasureSettings, gap, one_part, side
from reglab.measures.evaluate import evaluation_of
from reglab.measures.groups import by_group
from reglab.regularizers import L2, Cocktail
from reglab.tasks import task_named
from reglab.tasks.groups import filled_groups
from reglab.tasks.survival import concordance_terms, cox_losses
from reglab.training.fused.measurement import PackMeasurement
from reglab.training.per_example import examples, measured_rows
from tasks.task_cases import case


def survivors(rows, features=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, features, generator=generator)
    hazards = inputs @ torch.tensor([1.0, -1.0, 0.0])
    died = -torch.rand(rows, generator=generator).log() / hazards.exp()
    lost = -1.5 * torch.rand(rows, generator=generator).log()
    return inputs, torch.stack([torch.minimum(died, lost), (died <= lost).float()], 1), hazards


def efron(hazards, times, events):
    """Minus the partial log-likelihood, as textbooks write it."""
    total = 0.0
    for time in np.unique(times[events]):
        dying = hazards[(times == time) & events]
        at_risk = np.exp(hazards[times >= time]).sum()
        for rank in range(len(dying)):
            total += np.log(at_risk - rank / len(dying) * np.exp(dying).sum())
        total -= dying.sum()
    return total


def test_the_loss_is_the_partial_likelihood_with_efrons_ties():
    outputs, targets = case("survival")
    times, events = targets[:, 0], targets[:, 1] > 0
    found = cox_losses(outputs[:, 0], times, events)
    assert len(times.unique()) < len(times) / 2
    assert float(found.sum()) == pytest.approx(efron(outputs[:, 0].numpy(), times.numpy(), events.numpy()), rel=1e-12)
    assert bool((found[~events] == 0).all())


def test_a_measured_row_is_compared_with_the_rows_of_its_group():
    outputs, targets = (each[:50] for each in case("survival"))
    task = task_named("survival(8)")
    losses = task.losses(task.align(outputs, targets), targets)
    groups, back = filled_groups(50, 8)
    assert groups.shape == (7, 8)
    assert groups.flatten()[back].tolist() == list(range(50))
    numbers = task.groups(50)
    for number, rows in enumerate(groups):
        own = rows[numbers[rows] == number]
        assert len(own) == (8 if number < 6 else 2)
        hazards, times, events = outputs[rows, 0], targets[rows, 0], targets[rows, 1] > 0
        assert len(rows.unique()) == 8
        expected = cox_losses(hazards, times, events)
        torch.testing.assert_close(losses[own], expected[numbers[rows] == number])
    assert by_group(losses, numbers).mean() == pytest.approx(float(losses.mean()))


@pytest.mark.parametrize("rows, ties", [(60, 1), (300, 1), (300, 40), (300, 1000)])
def test_the_score_is_harrells_concordance(rows, ties):
    _, targets, hazards = survivors(rows)
    targets[:, 0] = (targets[:, 0] * 1000 / ties).ceil()
    hazards = hazards.double().round(decimals=1)
    risks, times, events = hazards.numpy(), *targets.numpy().T
    first, second = (np.zeros(rows) for _ in range(2))
    for i in range(rows):
        later = (times > times[i]) | ((times == times[i]) & (events == 0))
        if events[i]:
            right = ((risks[i] > risks) + 0.5 * (risks[i] == risks)) * later
            first += right + right.sum() * (np.arange(rows) == i)
            second += later + later.sum() * (np.arange(rows) == i)
    index = first.sum() / second.sum()
    terms = concordance_terms(hazards, targets[:, 0], targets[:, 1] > 0)
    np.testing.assert_allclose(terms, index + (first - index * second) * rows / (second.sum() / 2), rtol=1e-9)


def test_intervals_of_loss_and_score_cover():
    task, found = task_named("survival(16)"), []
    for seed in range(300):
        _, targets, hazards = survivors(200, seed=seed)
        found.append(one_part("test", side(evaluation_of(hazards, targets, task), task), task))
    for name in ("loss", "concordance"):
        values = torch.stack([each[f"test/{name}"] for each in found])
        low, high = (torch.stack([each[f"test/{name}_{end}"] for each in found]) for end in ("low", "high"))
        assert 0.9 < float(((low < values.mean()) & (values.mean() < high)).float().mean()) < 0.985


def test_too_few_groups_give_no_interval_and_too_few_rows_are_refused():
    outputs, targets = case("survival")
    task = task_named("survival(8)")
    measured = side(evaluation_of(outputs, targets, task), task)
    assert torch.isnan(gap(measured, measured, task)["gap/loss_low"])
    few = side(evaluation_of(outputs[:6], targets[:6], task), task)
    with pytest.raises(UserError, match=r"survival\(8\) compares the rows of groups of 8, and a measured part has 6"):
        gap(measured, few, task)
    inputs, times, _ = survivors(60)
    data = reglab.dataset(inputs, times, task="survival")
    with pytest.raises(UserError, match="a measured part has 12: make it larger"):
        reglab.fit(torch.nn.Linear(3, 1), data)


def test_a_pack_of_many_rows_is_measured_in_the_groups_that_each_job_has_alone():
    inputs, times, _ = survivors(200)
    data = reglab.dataset(inputs, times, task="survival(5)")

    def job(number):
        made = harness.job(model=torch.nn.Linear(3, 1), data=data, epochs=1)
        return harness.replace(made, cocktail=Cocktail({"l2": L2(10.0**-number)}, 0, data.task))

    experiments = [job(number) for number in range(2)]
    fused = harness.together(experiments)
    settings, device = MeasureSettings(), torch.device("cpu")
    measures = [
        PackMeasurement([data, data], settings, device, torch.float64, cells).gap(fused.pack) for cells in (None, 34)
    ]
    for key, value in measures[0].items():
        torch.testing.assert_close(measures[1][key], value, equal_nan=True)


def test_fit_finds_the_hazards():
    inputs, times, _ = survivors(600)
    data = reglab.dataset(inputs, times, task="survival(8)")
    model = torch.nn.Linear(3, data.outputs)
    torch.nn.init.zeros_(model.weight)
    fit = reglab.fit(model, data, reglab.L2(1e-4), epochs=15, lr=0.03)
    torch.testing.assert_close(model.weight.detach()[0], torch.tensor([1.0, -1.0, 0.0]), atol=0.3, rtol=0)
    assert fit.metrics["val/concordance"] > 0.75
    assert fit.metrics["gap/loss_low"] < fit.gap[0] < fit.metrics["gap/loss_high"]


@pytest.mark.parametrize(
    "targets, message",
    [
        (torch.rand(40, 3), "takes a time, and 1 or 0 for whether the event was seen"),
        (torch.rand(40, 2), "the event must be 1 where it was seen"),
        (torch.stack([torch.arange(40.0), torch.zeros(40)], 1), "no event was seen"),
        (torch.stack([torch.arange(40.0) - 9, torch.ones(40)], 1), "times must be >= 0"),
    ],
)
def test_what_are_no_times_is_refused(targets, message):
    with pytest.raises(UserError, match=message):
        reglab.dataset(torch.randn(40, 3), targets, task="survival")


@pytest.mark.parametrize("name", ["survival(1)", "survival(2.5)", "survival(a)"])
def test_groups_that_are_none_are_refused(name):
    with pytest.raises(UserError, match="survival"):
        task_named(name)


def test_a_table_names_its_column_of_events(tmp_path):
    inputs, times, _ = survivors(200)
    path = tmp_path / "patients.csv"
    columns = torch.cat([times, inputs], 1).tolist()
    path.write_text("days,died,a,b,c\n" + "\n".join(",".join(f"{value:.4f}" for value in row) for row in columns))
    data = reglab.dataset("table", path=str(path), target="days", event="died")
    assert (data.task, data.feature_names, data.target_names) == ("survival", ("a", "b", "c"), ("days", "died"))
    torch.testing.assert_close(data.val.targets, times[data.val.index], atol=1e-4, rtol=0)
    with pytest.raises(UserError, match=r"1 or 0 for whether the event was seen then, .*data\.event=SEEN"):
        reglab.dataset("table", path=str(path), target="days", drop="died", task="survival(4)")
    with pytest.raises(UserError, match=r"data\.event=died is of the task survival, got data\.task=regression"):
        reglab.dataset("table", path=str(path), target="days", event="died", task="regression")
    with pytest.raises(UserError, match=r"name their column, data\.target=COLUMN"):
        reglab.dataset("table", path=str(path), target=["days", "a"], event="died")
    weighted = reglab.dataset("table", path=str(path), target="days", event="died", sample_weight="days")
    with pytest.raises(UserError, match="which example weights cannot weigh"):
        reglab.fit(torch.nn.Linear(3, 1), weighted)


def test_results_by_example_are_those_of_groups_known_by_their_rows():
    inputs, times, hazards = survivors(400)
    task, kept = task_named("survival(4)"), {}
    for split in (0, 1):
        data = reglab.dataset(inputs, times, task="survival(4)", split_seed=split)
        parts = (data.train, data.val)
        evaluations = tuple(evaluation_of(hazards[part.index], part.targets, task) for part in parts)
        kept[split] = examples(measured_rows(data, MeasureSettings()), evaluations, task, torch.float32)
        assert len(kept[split].val_loss) == len(data.val) // 4
        assert kept[split].val_loss.mean() == pytest.approx(float(evaluations[1].losses.mean()), rel=1e-5)
        score = concordance_terms(hazards[data.val.index], data.val.targets[:, 0], data.val.targets[:, 1] > 0).mean()
        assert kept[split].val_score.mean() == pytest.approx(float(score), rel=1e-5)
    indices = [set(each.val_index.tolist()) for each in kept.values()]
    assert [len(each) for each in indices] == [20, 20]
    assert indices[0].isdisjoint(indices[1])


def test_what_parts_the_rows_of_a_step_is_refused():
    inputs, times, _ = survivors(400)
    data = reglab.dataset(inputs, times, task="survival")
    with pytest.raises(UserError, match="the loss of survival compares the rows of a step"):
        reglab.fit(torch.nn.Linear(3, 1), data, trainer={"accumulate_grad_batches": 2})
