"""Fixtures for the tests of the command line."""

from launchers.small import conf, hydra

__all__ = ["conf", "hydra"]
