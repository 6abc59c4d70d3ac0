"""Data: bundled sets, generators with known truth, and a user's own table, split and prepared without leakage.

``load(config)`` turns the ``data`` node of a composed config into a ``DataSet`` with three parts, each a ``Part``.
"""

from reglab.data.assemble import check, load
from reglab.data.dataset import DataSet, Part, Task

__all__ = ["DataSet", "Part", "Task", "check", "load"]
