"""reglab as a library: ``fit`` for a plain ``nn.Module``."""
