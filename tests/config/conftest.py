"""Fixtures for the tests of configuration."""

from launchers.small import conf, hydra

__all__ = ["conf", "hydra"]
