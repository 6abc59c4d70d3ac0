"""Multi-process runs: rank variables, consistency checks between ranks, child processes. No torch."""
