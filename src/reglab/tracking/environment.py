"""MLflow's environment variables that say where runs go, where the configuration leaves it open."""

import os

from reglab.core.errors import UserError

URI, EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
_ID, _RUN = "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"
_DEFAULT = "reglab"


def tracking_uri() -> str | None:
    """Return the store that the variable names, if any."""
    return os.environ.get(URI) or None


def experiment_name() -> str:
    """Return the experiment that the variable names, else the default."""
    return os.environ.get(EXPERIMENT) or _DEFAULT


def check_variables(experiment: str | None) -> None:
    """Refuse variables that MLflow's own programs follow, and a new run of reglab cannot.

    Args:
        experiment: That the configuration names, if it does.

    Raises:
        UserError: Naming the variable, and what to do.
    """
    if os.environ.get(_RUN):
        raise UserError(
            f"{_RUN}={os.environ[_RUN]} is set, and a run of reglab is a new one: unset the variable; reglab resume "
            "continues a run"
        )
    if os.environ.get(_ID) and experiment is None and not os.environ.get(EXPERIMENT):
        raise UserError(
            f"{_ID}={os.environ[_ID]} is set, and experiments are known by name: set {EXPERIMENT}, or give "
            "tracking.experiment=NAME"
        )


def follow(uri: str | None, experiment: str | None) -> None:
    """Set the variables to where a sweep was begun, which its command may have left open.

    A later shell need not have the variables of the first. What the command names stays.

    Args:
        uri: Of its store, which the user has named.
        experiment: Of its run.
    """
    for variable, value in ((URI, uri), (EXPERIMENT, experiment)):
        if value is not None:
            os.environ[variable] = value
