"""Multi-process runs: rank variables, consistency checks, child processes. No torch."""
