"""Tracking settings: the ``tracking`` node of a config, store URIs and paths."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args
from urllib.parse import quote, unquote, urlsplit

from reglab.core.errors import UserError, nearest
from reglab.core.secrets import hide
from reglab.tracking import environment
from reglab.tracking.curve_files import CurveFile, check_curve_files

POINTS = 500  # a chart is some thousand pixels wide
_OPTIONS = ["name", "uri", "experiment", "artifacts", "points", "also"]
_TEXTS = ("name", "uri", "experiment", "artifacts")
_PREFIX = "sqlite:///"
_LONGEST_NAME, _LONGEST_ON_SERVER = 500, 256  # of an experiment: MLflow's limit, and that of most databases
_ESCAPED = re.compile(r"\?|%(?=[0-9A-Fa-f]{2})")  # what ends a path in a URL, and what looks like an escape
_EXAMPLES = "sqlite:///reglab.db, or the address of an MLflow server such as http://127.0.0.1:5000"

Backend = Literal["mlflow", "offline", "none"]


@dataclass(frozen=True)
class TrackingSettings:
    """Where runs are tracked, and how much of them.

    Args:
        backend: ``mlflow``, ``offline`` (sent later, by ``reglab sync``) or ``none``.
        uri: Absolute.
        artifacts: URI of the artifact root; None: a server decides.
        artifacts_named: Whether the config names it.
        points: How many points of one series go to the store, 2 or more; None: all.
        also: Other tools that get all points of each run when it ends.
    """

    backend: Backend
    uri: str
    experiment: str
    artifacts: str | None
    points: int | None = POINTS
    artifacts_named: bool = False
    also: tuple[CurveFile, ...] = ()

    @classmethod
    def from_config(cls, node: Mapping[str, Any], folder: Path | None = None) -> "TrackingSettings":
        """Return the settings that a config node describes.

        Relative paths count from ``folder``, the working folder.

        Raises:
            UserError: For an unknown key, backend, budget or other tool, for a store that MLflow
                cannot keep runs in, and for a secret in what every run shows.
        """
        folder = (folder or Path.cwd()).resolve()
        for key, value in node.items():
            if key not in _OPTIONS:
                raise UserError(f"tracking.{key}: no such option; {nearest(key, _OPTIONS)}")
            number = key == "experiment" and isinstance(value, int | float)
            if key in _TEXTS and value is not None and not (isinstance(value, str) or number):
                raise UserError(f"tracking.{key}={value} must be a text: write it in quotes, or leave it out")
        backend = node.get("name", "mlflow")
        if backend not in get_args(Backend):
            raise UserError(f"tracking.name={backend}: choose tracking=mlflow, tracking=offline or tracking=none")
        given = node.get("experiment")
        experiment = (environment.experiment_name() if given is None else str(given)).strip()
        if not experiment:
            raise UserError("tracking.experiment is empty: name the study, such as tracking.experiment=reglab")
        points = node.get("points", POINTS)
        if points is not None and (type(points) is not int or points < 2):
            raise UserError(f"tracking.points={points}: give a whole number from 2 on, or null to send every point")
        also = check_curve_files(node.get("also"), experiment)
        recorded = node.get("uri") is not None or backend != "none"  # without MLflow its variables do not count
        uri = absolute_uri(node.get("uri"), folder) if recorded else store_uri(folder / "reglab.db")
        longest = _LONGEST_NAME if sqlite_path(uri) else _LONGEST_ON_SERVER
        if len(experiment) > longest:
            raise UserError(
                f"tracking.experiment has {len(experiment)} characters, and the store keeps {longest}: choose a "
                "shorter name"
            )
        artifacts = artifact_root(node.get("artifacts"), uri, folder)
        for key, value in (("uri", uri), ("experiment", experiment), ("artifacts", artifacts)):
            if value and hide(redacted(value)) != redacted(value):
                raise UserError(
                    f"tracking.{key} holds the value of an environment variable that may be a secret, and it would "
                    "stand in every run for all to see: write it out, or give another one"
                )
        return cls(cast(Backend, backend), uri, experiment, artifacts, points, node.get("artifacts") is not None, also)

    def check_artifacts(self, location: str) -> None:
        """Raise UserError where the config names other artifacts than an experiment has.

        Args:
            location: Of the experiment that is there.
        """
        if self.artifacts_named and location.rstrip("/") != str(self.artifacts).rstrip("/"):
            raise UserError(
                f"the experiment {self.experiment!r} keeps its artifacts in {redacted(location)}, which MLflow cannot "
                "change: leave tracking.artifacts out, or begin another experiment: tracking.experiment=NAME"
            )


def absolute_uri(uri: str | None, folder: Path) -> str:
    """Return ``uri`` with a relative SQLite path made absolute.

    None is the store of the variable MLFLOW_TRACKING_URI, else ``reglab.db`` in ``folder``. Worker
    processes must mean the same file wherever they run.

    Args:
        uri: SQLite file or server; None: the default.
        folder: Where relative paths start.

    Raises:
        UserError: For MLflow's file store, which MLflow itself gave up, and for a database in
            memory, which workers cannot share.
    """
    name = "tracking.uri" if uri is not None else environment.URI
    uri = environment.tracking_uri() if uri is None else uri
    if uri is None:
        return store_uri(folder / "reglab.db")
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file"):
        raise UserError(f"{name}={uri} is no SQLite file and no server, where runs are kept. Give {_EXAMPLES}")
    if scheme != "sqlite":
        return uri
    path = uri.removeprefix(_PREFIX)
    if not uri.startswith(_PREFIX) or path in ("", ":memory:") or "?" in path:
        raise UserError(
            f"{name}={uri}: give a plain SQLite file, which worker processes can share: {_EXAMPLES}. A question "
            "mark in its name is written %3F"
        )
    return store_uri(folder / unquote(path))


def store_uri(path: Path) -> str:
    """Return the URI of the SQLite store in the file ``path``, which SQLAlchemy reads back.

    Only what it would take for something else is escaped, so that other paths stay readable.

    Example:
        >>> store_uri(Path("/data/why?/a b/100%25.db"))
        'sqlite:////data/why%3F/a b/100%2525.db'
    """
    return _PREFIX + _ESCAPED.sub(lambda found: quote(found[0]), str(path))


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite store, or None for another store."""
    return Path(unquote(uri.removeprefix(_PREFIX))) if uri.startswith(_PREFIX) else None


def client_uri(uri: str) -> str:
    """Return ``uri`` as MLflow is to be given it.

    Of ``sqlite:///`` MLflow takes the rest for a path and makes its folders, the escapes in their
    names; with the driver named it does not.
    """
    path = sqlite_path(uri)
    plain = path is None or f"{_PREFIX}{path}" == uri
    return uri if plain else uri.replace("sqlite:", "sqlite+pysqlite:", 1)


def local_path(uri: str | None) -> Path | None:
    """Return the local folder of an artifact URI, or None where it is remote."""
    parts = urlsplit(uri or "elsewhere:")
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(str(uri)) if parts.scheme == "" else None


def redacted(uri: str) -> str:
    """Return ``uri`` without a user name and password, for messages and files."""
    parts = urlsplit(uri)
    return uri if parts.username is None else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def view_command(uri: str) -> str:
    """Return how one looks at the store at ``uri``.

    The command of the dashboard, or a server's address.
    """
    if sqlite_path(uri) is None:
        return redacted(uri)
    default = uri == absolute_uri(None, Path.cwd())
    return (
        "reglab dashboard   (in a checkout: scripts/dashboard)"
        if default
        else (f"reglab dashboard --uri {shlex.quote(uri)}")
    )


def artifact_root(given: str | None, uri: str, folder: Path) -> str | None:
    """Return the URI under which the store at ``uri`` keeps artifacts.

    A relative one counts from ``folder``. Nothing given: beside a SQLite file; None where a server
    decides.
    """
    if given is not None:
        return given if urlsplit(given).scheme else (folder / given).as_uri()
    store = sqlite_path(uri)
    return beside(store) if store else None


def beside(store: Path) -> str:
    """Return the URI of the folder of artifacts beside a SQLite file."""
    return (store.parent / "mlartifacts").as_uri()
