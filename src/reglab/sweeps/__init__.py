"""Sweeps: from blocks and seeds to jobs, which of them are done, and how a sweep ends."""
