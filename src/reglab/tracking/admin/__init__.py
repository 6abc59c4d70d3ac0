"""Administration of runs: find, sync, clean, dashboard."""
