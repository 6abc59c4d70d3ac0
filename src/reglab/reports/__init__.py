"""Sweep reports: terminal table, verdict, figures, one HTML page."""
