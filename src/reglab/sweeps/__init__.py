"""Sweeps: what runs, where it runs, what it says while it runs, and which job is chosen."""
