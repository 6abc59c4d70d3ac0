"""Segmentation and next token against loops, scikit-learn and torchmetrics."""

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from torchmetrics.text import Perplexity

import reglab
from reglab.core.errors import UserError
from reglab.measures import example_losses, gap, side
from reglab.measures.evaluate import evaluation_of
from tasks.task_cases import ROWS, case


def per_row(outputs, targets):
    """The loss and the share of right decisions of each row, by loops; outputs [rows, positions, classes]."""
    found = []
    for row in range(len(targets)):
        losses, right = [], []
        for position in range(targets.shape[1]):
            wanted = int(targets[row, position])
            if wanted != -100:
                logits = outputs[row, position].tolist()
                losses.append(math.log(sum(math.exp(logit) for logit in logits)) - logits[wanted])
                right.append(logits.index(max(logits)) == wanted)
        found.append((np.mean(losses), np.mean(right)))
    return np.array(found).T


@pytest.mark.parametrize("task", ["segmentation", "next_token"])
def test_losses_and_accuracy_are_means_over_what_counts(task):
    outputs, targets = case(task)
    flat = outputs.flatten(2).movedim(1, 2) if task == "segmentation" else outputs
    losses, shares = per_row(flat, targets.flatten(1))
    assert (targets == -100).any()
    np.testing.assert_allclose(example_losses(outputs, targets, task), losses, rtol=1e-9)
    measured = side(evaluation_of(outputs, targets, task), task)
    np.testing.assert_allclose(float(gap(measured, measured, task)["val/accuracy"]), shares.mean(), rtol=1e-9)


def jaccard(outputs, targets):
    counted = targets.flatten() != -100
    true, given = targets.flatten()[counted], outputs.argmax(1).flatten()[counted]
    return sklearn.metrics.jaccard_score(true, given, average="macro")


def test_mean_iou_is_scikit_learns_and_its_error_a_jackknife_over_it():
    outputs, targets = case("segmentation")
    measured = side(evaluation_of(outputs, targets, "segmentation"), "segmentation")
    found = gap(measured, measured, "segmentation")
    np.testing.assert_allclose(float(found["val/mean_iou"]), jaccard(outputs, targets), rtol=1e-9)
    kept = [torch.arange(ROWS) != row for row in range(ROWS)]
    scores = np.array([jaccard(outputs[rows], targets[rows]) for rows in kept])
    error = np.sqrt((ROWS - 1) / ROWS * ((scores - scores.mean()) ** 2).sum())
    np.testing.assert_allclose(float(found["val/mean_iou_se"]), error, rtol=0.03)


def test_perplexity_is_torchmetrics_where_sequences_are_equally_long():
    outputs, targets = case("next_token")
    targets = targets.masked_fill(targets == -100, 0)
    measured = side(evaluation_of(outputs, targets, "next_token"), "next_token")
    found = gap(measured, measured, "next_token")
    metric = Perplexity().double()
    torch.testing.assert_close(found["val/perplexity"], metric(outputs, targets).double(), rtol=1e-6, atol=0)
    assert found["gap/perplexity_low"] < 0 < found["gap/perplexity_high"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.masked_fill(torch.arange(ROWS).reshape(-1, 1) == 7, -100), "no position of row 7 counts"),
        (lambda t: t - 1, "classes must be >= 0"),
        (lambda t: t.double(), "whole numbers"),
    ],
)
def test_targets_that_are_none_are_refused(change, message):
    _, targets = case("next_token")
    with pytest.raises(UserError, match=message):
        reglab.dataset(torch.zeros(ROWS, 6, dtype=torch.int64), change(targets.clamp(min=0)), task="next_token")
