"""MNIST-1D: ten digits as short signals, hard enough to overfit within seconds."""

import functools

import numpy as np

from reglab.data.checks import choice, whole
from reglab.data.digits import AUTO, SHAPES
from reglab.data.source import Booleans, Floats, Integers, Source
from reglab.data.streams import normal, permutation, stream, uniform

POINTS = 40
# Where a pen is, left (-) or right (+) of a digit's middle, from its top to its bottom.
STROKES = np.array(
    [
        [0, 2, 3, 4, 4, 4, 4, 4, 4, 3, 2, 0],
        [0, -3, -3, -2, -2, -1, -1, 0, 0, 1, 1, 0],
        [0, 3, 4, 4, 2, 0, -1, -3, -4, -4, -2, 0],
        [0, 2, 4, 3, 1, 0, 0, 1, 3, 4, 2, 0],
        [0, -1, -2, -3, -4, -4, 1, 0, 0, 0, 0, 0],
        [0, -4, -4, -4, -3, 1, 3, 4, 4, 3, -1, 0],
        [0, -2, -3, -4, -4, -4, -4, -4, -4, -3, -2, 0],
        [0, 4, 4, 3, 2, 2, 1, 1, 0, -1, -1, 0],
        [0, -2, -4, -3, -1, 0, 0, -1, -3, -4, -2, 0],
        [0, -2, -4, -4, -2, 0, 0, 0, 0, -1, -1, 0],
    ],
    dtype=np.float64,
)
CANVAS = 72  # points of the signal before it is thinned out to POINTS
PADDING = (36, 60)
SCALE, TRANSLATION, SHEAR = 0.4, 48, 0.75
CORRELATED_NOISE, INDEPENDENT_NOISE = 0.25, 0.02


def mnist1d(*, rows: int = 4000, shape: str = AUTO, seed: int = 0) -> Source:
    """Return ``rows`` signals of 40 points, equally many of each digit.

    A 12-point stroke is padded, stretched to 72 points, scaled, shifted, laid in smooth noise,
    sheared and thinned out to 40 points, all by random amounts. The transformations and their
    ranges are the paper's; the strokes and the random numbers are our own, so scores are close to
    published ones but not the same.

    Args:
        rows: Number of signals, >= 10.
        shape: ``flat`` [40], or ``image`` [1, 40] for a convolutional net; ``auto`` is flat here,
            see ``models.reads``.
        seed: Seed of all draws, >= 0.

    Source:
        Greydanus & Kobak (2024), Scaling down deep learning with MNIST-1D.
    """
    choice("shape", shape, SHAPES)
    signals, labels = generate(whole("rows", rows, 10), whole("seed", seed, 0))
    return Source(
        task="classification",
        numeric=signals,
        numeric_names=tuple(f"point_{point}" for point in range(POINTS)),
        targets=labels,
        target_names=tuple(str(digit) for digit in range(10)),
        shape=(1, POINTS) if shape == "image" else None,
        homogeneous=True,
    )


@functools.lru_cache(maxsize=2)  # a sweep's jobs share one process, and this is a tenth of a second
def generate(rows: int, seed: int) -> tuple[Floats, Integers]:
    """Return signals [rows, 40] and their digits [rows], read-only."""
    labels = permutation(stream(seed, "mnist1d", "labels"), rows) % 10
    draw = functools.partial(_draw, seed, rows)
    low, high = PADDING
    padding = low + np.floor(draw("padding") * (high - low + 1))
    signal, drawn = stretch(templates()[labels], padding, np.floor(draw("shift") * TRANSLATION))
    signal *= 1 + SCALE * (draw("scale") - 0.5)[:, None]
    signal = np.where(drawn, signal, smooth(CORRELATED_NOISE * normal(stream(seed, "mnist1d", "smooth"), rows, CANVAS)))
    signal += INDEPENDENT_NOISE * normal(stream(seed, "mnist1d", "independent"), rows, CANVAS)
    signal -= SHEAR * (draw("shear") - 0.5)[:, None] * np.linspace(-0.5, 0.5, CANVAS)
    signals = interpolate(signal, np.broadcast_to(np.linspace(0, CANVAS - 1, POINTS), (rows, POINTS)))
    signals.flags.writeable = labels.flags.writeable = False
    return signals, labels


def _draw(seed: int, rows: int, purpose: str) -> Floats:
    return uniform(stream(seed, "mnist1d", purpose), rows)


def templates() -> Floats:
    """Return the strokes [10, 12], each of standard deviation 1/6, beginning and ending at 0."""
    scaled: Floats = STROKES / STROKES.std(axis=1, keepdims=True) / 6
    return scaled


def stretch(strokes: Floats, padding: Floats, shift: Floats) -> tuple[Floats, Booleans]:
    """Stretch strokes [rows, 12], with ``padding`` [rows] zeros behind each, over the canvas.

    Roll by ``shift`` [rows]. Returns the signals [rows, 72], and where the stroke lies, bool [rows,
    72].
    """
    point = (np.arange(CANVAS) - shift[:, None]) % CANVAS
    position = point * (strokes.shape[1] + padding[:, None] - 1) / (CANVAS - 1)
    end = strokes.shape[1] - 1  # every stroke ends at 0, so the last point is the padding
    return interpolate(strokes, position.clip(max=end)), position < strokes.shape[1]


def smooth(noise: Floats) -> Floats:
    """Return ``noise`` [rows, points] filtered by a Gaussian of deviation 2 along the points."""
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(noise, sigma=2, axis=1))


def interpolate(values: Floats, position: Floats) -> Floats:
    """Interpolate ``values`` [rows, points] linearly at fractional positions [rows, m]."""
    left = np.floor(position).astype(np.int64).clip(max=values.shape[1] - 2)
    before, after = (np.take_along_axis(values, left + step, axis=1) for step in (0, 1))
    values = before + (position - left) * (after - before)
    return values
