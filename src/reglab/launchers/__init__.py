"""Where the jobs of a sweep run: worker processes, packs, GPUs, retries, and what is shown meanwhile."""
