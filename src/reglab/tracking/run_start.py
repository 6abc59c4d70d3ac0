"""``start.json``: params, tags and data set of a run that its store does not have yet."""

import getpass
import json
import re
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reglab.core import atomic_write
from reglab.core.describe_error import storable
from reglab.core.errors import UserError
from reglab.core.secrets import hide
from reglab.tracking.folder import FOLDER, START
from reglab.tracking.folder_gate import check_run_folder
from reglab.tracking.git import git_tags
from reglab.tracking.params import flatten, shorten, shown
from reglab.tracking.run_spec import RunSpec
from reglab.tracking.settings import TrackingSettings
from reglab.tracking.store_keys import store_key

_LONGEST_PARAM = 6_000  # MLflow's limits
_LONGEST_TAG = 8_000
_LONG_PARAMS, _LONG_TAGS = "params_long.json", "tags_long.json"
_ID = re.compile(r"\w{1,64}", re.ASCII)

Texts = Mapping[str, str]


@dataclass(frozen=True)
class DatasetInfo:
    """What is kept of a data set."""

    name: str
    digest: str
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Start:
    """What a run is created with in a store; keys and values as MLflow takes them.

    Args:
        run_id: The run's own, which a server replaces.
        parent: The own id of the sweep's run.
        time: Milliseconds since 1970.
        artifacts: The URI of the experiment's artifact root, should the experiment have to be made;
            None: the store decides.
    """

    run_id: str
    name: str
    experiment: str
    artifacts: str | None
    time: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    parent: str | None = None
    dataset: DatasetInfo | None = None


def new_start(
    spec: RunSpec, environment: Mapping[str, str], settings: TrackingSettings
) -> tuple[Start, dict[str, Texts]]:
    """Return the start of the run ``spec``, and texts too long for MLflow by file name.

    Args:
        environment: See ``environment_tags``.
    """
    params, long_params = shorten(flatten(shown(spec.params)), _LONGEST_PARAM, _LONG_PARAMS)
    tags, long_tags = shorten(all_tags(spec) | dict(environment), _LONGEST_TAG, _LONG_TAGS)
    dataset = None
    if spec.dataset:
        summary = {key: hide(value) if isinstance(value, str) else value for key, value in spec.dataset.summary.items()}
        dataset = DatasetInfo(hide(spec.dataset.name), spec.dataset.digest, summary)
    start = Start(
        uuid.uuid4().hex,
        spec.name,
        settings.experiment,
        settings.artifacts,
        time.time_ns() // 1_000_000,
        {store_key(key): value for key, value in params.items()},
        {store_key(key): value for key, value in tags.items()},
        spec.parent,
        dataset,
    )
    return start, {name: texts for name, texts in ((_LONG_PARAMS, long_params), (_LONG_TAGS, long_tags)) if texts}


def all_tags(spec: RunSpec) -> dict[str, str]:
    """Return the tags of a run in any backend, without known secrets; its parent is apart."""
    tags = {key: storable(hide(str(value))) for key, value in spec.tags.items()}
    tags[FOLDER] = storable(str(spec.folder))
    return tags | ({"reglab.data_digest": spec.dataset.digest} if spec.dataset else {})


def environment_tags() -> dict[str, str]:
    """Return the tags of user, program, version and commit; computed once for many runs."""
    return {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.type": "LOCAL",
        "reglab.version": version("reglab"),
        **git_tags(Path.cwd()),
    }


def write_start(folder: Path, start: Start) -> None:
    """Write ``start.json``, durably: the run can be made from it later, by another process."""
    atomic_write.write(folder / START, json.dumps(asdict(start), indent=1, default=str) + "\n")


def read_start(folder: Path, name: str = START) -> Start:
    """Return what the run in ``folder`` starts with, or, as ``created.json``, was made from.

    Raises:
        UserError: Where that cannot be read.
    """
    check_run_folder(folder)
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        dataset = content.pop("dataset")
        start = Start(**content, dataset=DatasetInfo(**dataset) if dataset else None)
        # An id becomes part of a path.
        if not all(map(_ID.fullmatch, (start.run_id, start.parent or "none"))):
            raise ValueError(f"no id: {start.run_id!r}, {start.parent!r}")
        texts = [start.name, start.experiment, *start.params.values(), *start.tags.values()]
        texts += [] if start.artifacts is None else [start.artifacts]
        if type(start.time) is not int or not all(isinstance(text, str) for text in texts):
            raise ValueError("a value of another type than was written")
        return start
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{folder / name} cannot be read ({error}): put it back from a copy, without which the run cannot be "
            "made in a store"
        ) from error
