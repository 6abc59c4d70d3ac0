"""A little bias buys less variance: the minimum of the error lies inside the range of strengths."""

from collections.abc import Sequence

import numpy as np

from reglab.analysis.bias_variance.squared_error import squared_error
from reglab.api.claims.claim import Claim, Found, Number, Panel, best_of_others, chosen_values, lines
from reglab.api.claims.trainings import Floats, Setup, Trainings
from reglab.regularizers import L2

_ROWS, _SAMPLES, _NEW = 150, 8, 300
_LEAST = 0.01  # of the signal's variance, which is 1


def _judge(trainings: Trainings) -> Found:
    parts = np.array([_parts(trainings, repetition) for repetition in range(len(trainings.data))])
    bias, variance = parts[..., 0], parts[..., 1]
    error = bias + variance
    chosen = best_of_others(error.tolist())
    return Found(
        (
            Number("how much lower the variance is at the best strength than without", _change(-variance, chosen)),
            Number("how much higher bias² is there", _change(bias, chosen)),
            Number("how much lower their sum is", _change(-error, chosen), _LEAST),
            Number(
                "how much lower it is than at the largest strength",
                tuple((error[:, -1] - np.array(chosen_values(error, chosen))).tolist()),
                _LEAST,
            ),
        ),
        (
            Panel(
                "Squared error beyond the noise",
                trainings.setup.labels(L2),
                lines(**{"bias²": bias}, variance=variance, sum=error),
            ),
        ),
    )


def _change(values: Floats, chosen: Sequence[int]) -> tuple[float, ...]:
    """Return each repetition's value at the chosen setting minus that without a penalty."""
    return tuple((np.array(chosen_values(values, chosen)) - values[:, 0]).tolist())


def _parts(trainings: Trainings, repetition: int) -> list[list[float]]:
    """Return bias² and variance of each setting, without bias themselves."""
    data = trainings.data[repetition]
    assert data.expected is not None
    true = data.expected[data.val.index].double().numpy()[:, None]
    targets = data.val.targets.double().numpy()[:, None]
    samples = {"sample": np.arange(trainings.shape[2])}
    found = [squared_error(outputs.numpy(), targets, samples, true) for outputs in trainings.outputs(repetition, "val")]
    return [[float(each.bias.mean()), float(each.variance.mean())] for each in found]


CLAIM = Claim(
    name="tradeoff",
    question="Does a little bias buy so much variance that the best strength lies inside the range?",
    method=(
        f"Linear models with 100 inputs are trained on {_SAMPLES} samples of {_ROWS} rows each, of one generator with "
        f"known truth. Bias² and variance of the prediction are those on {_NEW} other rows, by unbiased U-statistics. "
        "The best strength of a repetition is that of the other repetitions, so that its own numbers do not choose it."
    ),
    setup=Setup(
        data={
            "name": "sparse_regression",
            "rows": _ROWS * _SAMPLES + _NEW + 100,
            "val_size": _NEW,
            "test_size": 100,
            "features": 100,
        },
        drawn="seed",
        regularizers={L2: (3e-2, 0.1, 0.3, 1.0, 4.0)},
        epochs=100,
        lr=1e-2,
        samples=_SAMPLES,
    ),
    judge=_judge,
    counterexample="The targets have no noise: there is no variance to buy.",
    counter={"data": {"noise": 0.0}},
    source="Geman, Bienenstock, Doursat (1992), Neural networks and the bias/variance dilemma",
)
