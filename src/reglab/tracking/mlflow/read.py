"""Read runs, metric histories and artifacts from MLflow."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from reglab.core.errors import UserError, nearest
from reglab.core.terminal import inline
from reglab.tracking.artifacts import local_home
from reglab.tracking.copies import is_succession
from reglab.tracking.folder import (
    IDENTITY,
    check_not_folder,
    is_id_prefix,
    is_pending,
    no_run_error,
    read_identity,
    shell_path,
)
from reglab.tracking.folder_gate import is_plain
from reglab.tracking.mlflow import sql
from reglab.tracking.mlflow.limited import download
from reglab.tracking.mlflow.store import UNREACHABLE, connect, reason
from reglab.tracking.run_record import RunRecord
from reglab.tracking.settings import client_uri, local_path, redacted, sqlite_path
from reglab.tracking.store_gate import check_artifact_store, check_store
from reglab.tracking.store_keys import store_key

_PAGE = 1_000
_RUN_ID = re.compile(r"[0-9a-f]{32}")  # as MLflow gives them
_PARENT = "mlflow.parentRunId"
_DIGEST = "reglab.data_digest"
# a search cannot say "or".
_TOUCHES = ("tags.`reglab.test_touched` = 'true'", "metrics.`test/loss` > -1e300")


def get_run(uri: str, run_id: str) -> RunRecord:
    """Return one run.

    Raises:
        UserError: Where there is no such run or store.
    """
    try:
        return _record(uri, connect(uri, create=False).get_run(run_id))
    except UNREACHABLE as error:
        raise _not_found("run", run_id, uri, error) from error


def sweep_runs(uri: str, parent_id: str) -> list[RunRecord]:
    """Return the runs of the sweep whose parent run is ``parent_id``, oldest first."""
    client = connect(uri, create=False)
    try:
        experiment = client.get_run(parent_id).info.experiment_id
        return _search(uri, client, [experiment], f"tags.mlflow.parentRunId = '{parent_id}'", "ASC")
    except UNREACHABLE as error:
        raise _not_found("sweep", parent_id, uri, error) from error


def experiment_runs(uri: str, name: str) -> list[RunRecord]:
    """Return the runs of an experiment, oldest first, those of its sweeps among them.

    Raises:
        UserError: Where there is no such experiment, naming the nearest, or the store is away.
    """
    client = connect(uri, create=False)
    try:
        experiments = {inline(each.name): str(each.experiment_id) for each in client.search_experiments()}
        if name not in experiments:
            raise UserError(f"no experiment {name!r} in {redacted(uri)}; {nearest(name, experiments)}")
        return _search(uri, client, [experiments[name]], "", "ASC")
    except UNREACHABLE as error:
        raise UserError(f"cannot read {redacted(uri)}: {reason(error)}") from error


def test_touches(uri: str, run_ids: Sequence[str], parent_id: str) -> list[str]:
    """Return who else evaluated the test set of the data of ``run_ids``, oldest first.

    Those are the runs of the same ``reglab.data_digest``, in any experiment and deleted ones too,
    that are tagged ``reglab.test_touched`` or have a test loss; each is named by its sweep, or by
    itself if it has none.

    Raises:
        UserError: Where the store cannot be read.
    """
    client = connect(uri, create=False)
    runs: dict[str, Run] = {}
    try:
        experiments = [str(each.experiment_id) for each in client.search_experiments(ViewType.ALL)]
        digests = {client.get_run(run_id).data.tags.get(_DIGEST, "") for run_id in run_ids} - {""}
        for digest, touch in product(sorted(digests), _TOUCHES):
            where = f"tags.`{_DIGEST}` = '{digest}' AND {touch}"
            runs |= {run.info.run_id: run for run in _pages(client, experiments, where, "ASC", ViewType.ALL)}
        others = [run for run in runs.values() if run.info.run_id not in run_ids and _parent(run) != parent_id]
        names = {parent: client.get_run(parent).info.run_name for parent in {_parent(run) for run in others} - {""}}
    except UNREACHABLE as error:
        raise UserError(f"cannot read {redacted(uri)}: {reason(error)}") from error
    return [
        inline(names.get(_parent(run), run.info.run_name))
        for run in sorted(others, key=lambda run: int(run.info.start_time))
    ]


def _not_found(noun: str, run_id: str, uri: str, error: Exception) -> UserError:
    if getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        return UserError(f"no {noun} {run_id!r} in {redacted(uri)}: was it made in another store?")
    return UserError(f"cannot read the {noun} {run_id!r} in {redacted(uri)}: {reason(error)}")


def _parent(run: Run) -> str:
    return str(run.data.tags.get(_PARENT, ""))


def history(uri: str, run_id: str, keys: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) of each metric, by step.

    A key that the run does not have gets an empty list.

    Args:
        uri: The store.
        run_id: The run in that store.
        keys: Metric keys.
    """
    stored = {store_key(key): key for key in keys}
    path = sqlite_path(uri)
    if path and sql.is_known(path):
        points_by_key = sql.read_history(path, run_id, list(stored))
    else:
        client = connect(uri, create=False)
        points_by_key = {
            key: sorted((m.step, sql.restored_value(m.value)) for m in client.get_metric_history(run_id, key))
            for key in stored
        }
    return {stored[key]: points for key, points in points_by_key.items()}


def artifact_path(record: RunRecord, name: str) -> Path:
    """Return a file or folder of the run's artifacts on this machine, downloaded if it is remote.

    Raises:
        UserError: Where the run has no such artifact, or not in a folder of artifacts.
    """
    check_artifact_store(record.artifact_uri, record.uri)
    folder = local_home(record.artifact_uri, record.run_id)
    if folder is not None:
        path = folder / name
        if not is_plain(path):
            names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
            raise UserError(f"run {record.name} ({record.run_id}) has no artifact {name}; {nearest(name, names)}")
        return path
    try:
        return _download(record, name)
    except UNREACHABLE as error:
        raise UserError(f"cannot fetch {name} of run {record.name} ({record.run_id}): {reason(error)}") from error


def copy_artifact(record: RunRecord, name: str, folder: Path) -> Path | None:
    """Return a file of the run's artifacts: the local file, or a copy in ``folder``.

    None without it.

    Raises:
        UserError: Where the store cannot be reached, or names no folder of artifacts.
    """
    check_artifact_store(record.artifact_uri, record.uri)
    local = local_home(record.artifact_uri, record.run_id)
    if local is not None:
        return local / name if (local / name).is_file() else None
    try:
        if name not in {each.path for each in connect(record.uri, create=False).list_artifacts(record.run_id)}:
            return None
        return _download(record, name, str(folder))
    except UNREACHABLE as error:
        raise UserError(f"cannot fetch {name} of run {record.name} ({record.run_id}): {reason(error)}") from error


def _download(record: RunRecord, name: str, folder: str | None = None) -> Path:
    def call() -> str:
        uri = client_uri(record.uri)
        return str(download_artifacts(run_id=record.run_id, artifact_path=name, dst_path=folder, tracking_uri=uri))

    return Path(download(record.uri, call))


def find_run(uri: str, run: str | Path) -> RunRecord:
    """Return the run with the folder, id, start of an id, or name ``run``.

    The newest of several with that name. A folder knows its own store, which the user must have
    named (``check_store``): ``uri`` is ignored then.

    Args:
        uri: The store for ids and names.
        run: Folder, id, start of an id (six characters or more) or name.

    Raises:
        UserError: Naming the nearest name.
    """
    if (Path(run) / IDENTITY).is_file():
        identity = read_identity(Path(run))
        if is_pending(Path(run)):
            raise UserError(f"the run in {run} is not in its store yet: reglab sync {shell_path(Path(run))}")
        return get_run(check_store(identity.uri, Path(run)) if identity.uri else uri, identity.run_id)
    return find_runs(uri, run)[0]


def find_runs(uri: str, run: str | Path) -> list[RunRecord]:
    """Return the runs of that id, name, or start of an id, newest first.

    Six characters of an id are enough.

    Raises:
        UserError: Where there is none, naming the nearest name.
    """
    check_not_folder(run)
    client = connect(uri, create=False)
    try:
        return [_record(uri, client.get_run(str(run)))]
    except MlflowException:  # not an id: then a name
        pass
    try:
        experiments = [str(each.experiment_id) for each in client.search_experiments()]
        newest = _search(uri, client, experiments, "", "DESC", most=_PAGE)
    except UNREACHABLE as error:
        raise UserError(f"cannot read {redacted(uri)}: {reason(error)}") from error
    named = [record for record in newest if record.name == str(run)]
    prefixed = [record for record in newest if is_id_prefix(record.run_id, str(run))]
    if not named and not prefixed:
        if Path(run).is_dir():
            raise no_run_error(run)
        hint = nearest(str(run), {record.name for record in newest})
        raise UserError(f"no run {str(run)!r} in {redacted(uri)}. Give a run's folder, id or name; {hint}")
    return named or prefixed


def _search(
    uri: str, client: MlflowClient, experiments: list[str], where: str, order: str, most: int | None = None
) -> list[RunRecord]:
    pages = _pages(client, experiments, where, order, ViewType.ACTIVE_ONLY)
    return [_record(uri, run) for run in islice(pages, most)]


def _pages(client: MlflowClient, experiments: list[str], where: str, order: str, view: int) -> Iterator[Run]:
    token: str | None = None
    while True:
        page = client.search_runs(experiments, where, view, _PAGE, [f"attributes.start_time {order}"], token)
        yield from page
        token = page.token
        if not token:
            return


def _record(uri: str, run: Run) -> RunRecord:
    """Return a run as a store has it, its texts in one line each and without what steers a terminal.

    Others write to a store too.
    """
    return RunRecord(
        run_id=run.info.run_id,
        name=inline(run.info.run_name),
        status=run.info.status,
        params={inline(key): inline(value) for key, value in run.data.params.items() if not is_succession(key)},
        tags={inline(key): inline(value) for key, value in run.data.tags.items()},
        metrics={inline(key): sql.restored_value(value) for key, value in run.data.metrics.items()},
        artifact_uri=run.info.artifact_uri,
        uri=uri,
    )


def deleted_runs(uri: str) -> dict[str, Path | None]:
    """Return the runs that were deleted, each with the local folder of its artifacts.

    None: it has none that may be removed. Only a SQLite store's word is taken for a folder, and
    only where it is that run's in the artifact root of its experiment.

    Raises:
        UserError: Where the store is away.
    """
    client = connect(uri, create=False)
    homes: dict[str, Path | None] = {}
    token: str | None = None
    try:
        found = client.search_experiments(ViewType.ALL)
        roots = {str(each.experiment_id): str(each.artifact_location) for each in found if sqlite_path(uri)}
        experiments = [str(each.experiment_id) for each in found]
        while True:
            page = client.search_runs(experiments, "", ViewType.DELETED_ONLY, _PAGE, page_token=token)
            homes |= {str(run.info.run_id): _removable(run, roots) for run in page}
            token = page.token
            if not token:
                return homes
    except UNREACHABLE as error:
        raise UserError(f"cannot read {redacted(uri)}: {reason(error)}") from error


def _removable(run: Run, roots: Mapping[str, str]) -> Path | None:
    """Return the folder of a run's artifacts if it is ``ROOT/RUN_ID/artifacts``, and no link."""
    run_id, root = str(run.info.run_id), local_path(roots.get(str(run.info.experiment_id)))
    home = local_path(run.info.artifact_uri)
    if root is None or home is None or not _RUN_ID.fullmatch(run_id):
        return None
    expected = root / run_id / "artifacts"
    return home if home == expected and Path(os.path.realpath(home)) == root.resolve() / run_id / "artifacts" else None
