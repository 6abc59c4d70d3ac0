"""reglab: which regularizer, how strongly, and why."""
