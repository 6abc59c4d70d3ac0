"""Fused training: jobs that differ only in hyperparameters, in one vmapped step."""
