"""``Regularize``: a Lightning callback that regularizes and measures a user's own module."""
