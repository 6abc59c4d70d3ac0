"""Analyze the runs of a sweep: paired comparisons, choice, claims, verdict. No torch."""
