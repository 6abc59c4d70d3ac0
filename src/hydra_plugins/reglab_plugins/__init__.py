"""Hydra plugins: reglab's sweeper and launchers; see ``reglab.sweeps``, ``reglab.launchers``."""
