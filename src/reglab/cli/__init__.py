"""The ``reglab`` command, one module for each of its sub-commands."""

from reglab.cli.command import main

__all__ = ["main"]
