"""MLflow's environment variables that say where runs go, where the configuration leaves it open."""

import os

from reglab.core.errors import UserError

URI, EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
# What MLflow's own programs read, and a run of reglab cannot follow.
_UNUSABLE = {
    "MLFLOW_EXPERIMENT_ID": f"experiments are known by name: set {EXPERIMENT}, or give tracking.experiment=NAME",
    "MLFLOW_RUN_ID": "a run of reglab is a new one, which reglab resume continues: unset the variable",
}
_DEFAULT = "reglab"


def tracking_uri() -> str | None:
    """Return the store that the variable names, if any."""
    return os.environ.get(URI) or None


def experiment_name() -> str:
    """Return the experiment that the variable names, else the default.

    Raises:
        UserError: For a variable that names one in a way that cannot be followed.
    """
    name = os.environ.get(EXPERIMENT)
    for variable, instead in _UNUSABLE.items():
        if not name and os.environ.get(variable):
            raise UserError(f"{variable}={os.environ[variable]} is set, and {instead}")
    return name or _DEFAULT
