"""Sweeps: expand blocks and seeds to jobs, skip finished jobs, launch, report."""
