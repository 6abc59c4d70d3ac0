"""Stores and runs for the tests of the library: those of the tests of training."""

from training.conftest import case, no_hydra, pytest_configure

__all__ = ["case", "no_hydra", "pytest_configure"]
