"""Data sets: bundled, synthetic with known truth, or the user's own; split without leakage.

``load(config)`` turns the ``data`` node of a composed config into a ``DataSet`` with three parts,
each a ``Part``.
"""

from reglab.data.assemble import check, load
from reglab.data.dataset import DataSet, Part
from reglab.data.rows import Rows

__all__ = ["DataSet", "Part", "Rows", "check", "load"]
