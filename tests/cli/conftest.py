"""Fixtures for the tests of the command line."""

from sweeps.small import conf, hydra

__all__ = ["conf", "hydra"]
