"""Fixtures for the tests of sweeps."""

from launchers.small import conf, hydra, master, multirun

__all__ = ["conf", "hydra", "master", "multirun"]
