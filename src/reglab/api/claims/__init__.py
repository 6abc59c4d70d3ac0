"""Six claims about regularization, each with a verdict that is computed from trainings."""

from reglab.api.claims.run import Claims, claims

__all__ = ["Claims", "claims"]
