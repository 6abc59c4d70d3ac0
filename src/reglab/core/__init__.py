"""Shared basics without torch.

Errors, secrets, signals, atomic files, markdown, metric direction. No torch.
"""
