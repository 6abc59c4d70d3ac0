"""What holds for each task, old or new: each that is found is held to it."""

import re

import pytest
import torch
from torch.func import vmap

from reglab.core.errors import UserError
from reglab.core.metric_direction import SCORES
from reglab.measures import evaluate, gap, side
from reglab.measures.contributions import row_terms
from reglab.measures.evaluate import evaluation_of
from reglab.tasks import task_named, task_names
from reglab.training.per_example import constant_predictor
from tasks.task_cases import MULTI, ROWS, case

every_task = pytest.mark.parametrize("name", [*task_names(), MULTI])


def test_the_tasks_of_the_documentation_are_found():
    assert {"classification", "binary", "multilabel", "regression"} <= set(task_names())


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match="task=regresion is unknown; did you mean 'regression'"):
        task_named("regresion")


@every_task
def test_losses_follow_from_statistics_and_a_row_counts_for_itself(name):
    task, (outputs, targets) = task_named(name), case(name)
    aligned = task.align(outputs, targets)
    losses, statistics = task.losses(aligned, targets), task.statistics(aligned, targets)
    assert losses.shape == (ROWS,)
    assert statistics.shape == (task.statistic_count(task.width(outputs)), ROWS)
    torch.testing.assert_close(task.losses_of(statistics), losses)
    torch.testing.assert_close(task.statistics_of(losses, aligned, targets), statistics)
    for row in (0, ROWS - 1) if task.per_example else ():
        alone = task.losses(task.align(outputs[row : row + 1], targets[row : row + 1]), targets[row : row + 1])
        torch.testing.assert_close(alone, losses[row : row + 1])


@every_task
def test_members_of_a_pack_get_what_each_gets_alone(name):
    task, (outputs, targets) = task_named(name), case(name)
    several = torch.stack([outputs, outputs.flip(0)])
    stacked = vmap(lambda each: task.losses(task.align(each, targets), targets))(several)
    for member, each in enumerate(several):
        torch.testing.assert_close(stacked[member], task.losses(task.align(each, targets), targets))
    leading = evaluation_of(several, targets, task)
    torch.testing.assert_close(leading.losses, stacked)
    together = gap(side(leading, task), side(leading, task, 0.5), task, scores=task.scores)
    for member, each in enumerate(several):
        evaluation = evaluation_of(each, targets, task)
        alone = gap(side(evaluation, task), side(evaluation, task, 0.5), task, scores=task.scores)
        for key, value in alone.items():
            torch.testing.assert_close(together[key][member], value, equal_nan=True)


@every_task
def test_no_constant_is_better_than_the_constant_predictor(name):
    """Up to the half example that it adds to each class, and where rows are compared to rounding."""
    task, (outputs, targets) = task_named(name), case(name)
    constant = constant_predictor(targets, ROWS, task.width(outputs), task).double()
    assert constant.shape == outputs.shape

    def mean_loss(offset):
        return task.losses(task.align(constant + offset, targets), targets).mean()

    best = mean_loss(torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        offset = torch.randn(constant[0].shape, generator=generator, dtype=torch.float64)
        assert mean_loss(offset) > best - (0 if task.per_example else 1e-9)


@every_task
def test_each_score_is_known_and_is_the_mean_of_its_row_terms(name):
    task, (outputs, targets) = task_named(name), case(name)
    measured = side(evaluation_of(outputs, targets, task), task)
    metrics = gap(measured, measured, task, scores=task.scores)
    assert {score.rpartition("/")[2] for score in task.scores} <= {*SCORES, "loss"}
    for score in task.scores:
        terms = row_terms(score, measured, task)
        assert terms.shape == (ROWS,)
        torch.testing.assert_close(terms.mean(), metrics[f"val/{score}"], msg=score)


@every_task
def test_a_module_of_half_precision_is_measured_in_float32(name):
    outputs, targets = case(name)
    answers = outputs.half()
    evaluation = evaluate(torch.nn.Identity(), answers, targets, name)
    assert evaluation.losses.dtype == torch.float32


@every_task
def test_shapes_that_do_not_fit_are_refused_by_the_name_of_the_task(name):
    outputs, targets = case(name)
    with pytest.raises(UserError, match=f"{re.escape(name)}: outputs of shape"):
        task_named(name).align(outputs[:-1], targets)
