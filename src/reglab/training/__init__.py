"""Training: Lightning around a cocktail.

Import the modules themselves; this package imports nothing.
"""
