"""Registration of reglab's sweeper and launcher with Hydra; what they do is in ``reglab.sweeps``."""
