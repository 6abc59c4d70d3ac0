"""Processes of one job on this machine: rank variables, what all agree on, who ends them. No torch."""
