"""Run the jobs of a sweep: worker processes, packs, GPUs, retries, progress display."""
