"""Optimizers: what proximal steps and fused training know of each, one family a file; schedules."""

import importlib
import pkgutil

from reglab.optimizers.rule import FusedRule, Number, Scale, UpdateRule, rule_for

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["FusedRule", "Number", "Scale", "UpdateRule", "rule_for"]
