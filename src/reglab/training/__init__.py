"""Training with Lightning around a cocktail of regularizers.

Import the modules themselves; this package imports nothing.
"""
