"""Registration of reglab's sweeper and launchers with Hydra; see ``reglab.sweeps`` and ``reglab.launchers``."""
