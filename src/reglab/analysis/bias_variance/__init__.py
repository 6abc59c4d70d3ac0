"""Bias, variance and noise of a setting, from runs on resampled training parts."""
