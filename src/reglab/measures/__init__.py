"""Measures: the audited gap and weight statistics, as pure functions of tensors."""

from reglab.measures.by_class import ByClass
from reglab.measures.calibration import Calibration
from reglab.measures.configured import measure_settings
from reglab.measures.curvature import Curvature
from reglab.measures.defaults import Gap, Memorization, Weights, default_measures
from reglab.measures.evaluate import Evaluation, evaluate
from reglab.measures.flatness import Flatness
from reglab.measures.gap import gap, gap_of_means, gap_of_points, one_part
from reglab.measures.gradient_noise import GradientNoise
from reglab.measures.losses import example_losses
from reglab.measures.margins import Margins
from reglab.measures.matrices import Gradients, Sparsity, Spectrum
from reglab.measures.measure import Measure, Measured
from reglab.measures.norms import Norms
from reglab.measures.numbers import table, to_floats
from reglab.measures.of_models import OfModels, measured
from reglab.measures.probe import probe_rows, probe_size
from reglab.measures.scores import score_name
from reglab.measures.settings import MeasureSettings
from reglab.measures.sides import Side, side
from reglab.measures.spectral_shape import SpectralShape
from reglab.measures.weights import weight_statistics

__all__ = [
    "ByClass",
    "Calibration",
    "Curvature",
    "Evaluation",
    "Flatness",
    "Gap",
    "GradientNoise",
    "Gradients",
    "Margins",
    "Measure",
    "MeasureSettings",
    "Measured",
    "Memorization",
    "Norms",
    "OfModels",
    "Side",
    "Sparsity",
    "SpectralShape",
    "Spectrum",
    "Weights",
    "default_measures",
    "evaluate",
    "example_losses",
    "gap",
    "gap_of_means",
    "gap_of_points",
    "measure_settings",
    "measured",
    "one_part",
    "probe_rows",
    "probe_size",
    "score_name",
    "side",
    "table",
    "to_floats",
    "weight_statistics",
]
