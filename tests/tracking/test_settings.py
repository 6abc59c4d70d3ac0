import shlex
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
import yaml
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import create_engine, make_url

from reglab.config.paths import conf_dir
from reglab.core.errors import UserError
from reglab.tracking.settings import (
    TrackingSettings,
    absolute_uri,
    beside,
    client_uri,
    local_path,
    redacted,
    sqlite_path,
    store_uri,
    view_command,
)


def settings(**node):
    return TrackingSettings.from_config(node, Path("/study"))


def test_the_default_is_a_sqlite_file_in_the_working_folder():
    found = settings(name="mlflow", uri=None)
    assert (found.uri, found.artifacts) == ("sqlite:////study/reglab.db", "file:///study/mlartifacts")
    assert sqlite_path(found.uri) == Path("/study/reglab.db")


@pytest.mark.parametrize(
    "uri, absolute",
    [
        ("sqlite:///runs.db", "sqlite:////study/runs.db"),
        ("sqlite:///sub/runs.db", "sqlite:////study/sub/runs.db"),
        ("sqlite:////data/runs.db", "sqlite:////data/runs.db"),
        ("http://server:5000", "http://server:5000"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
    ],
)
def test_relative_stores_become_absolute_and_others_stay(uri, absolute):
    assert settings(uri=uri).uri == absolute


HARD = [
    "why?",
    "100%25",
    "100%",
    "a%3Fb",
    "a#b",
    "a b",
    "é漢",
    "x;y&z=1",
    "[x]",
    "'\"`",
    "-lead",
    "a\nb",
    "${HOME}",
    "a@b:c",
]
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda name: name not in (".", "..")
)
steady = examples(derandomize=True, database=None, max_examples=200, deadline=None)


@steady
@given(NAMES)
@example("why?")
@example("100%25")
@example("%%41?%")
def test_a_store_has_one_uri_that_sqlalchemy_reads_back(name):
    path = Path("/study") / name / "reglab.db"
    uri = store_uri(path)
    assert make_url(uri).database == str(path)
    assert make_url(client_uri(uri)).database == str(path)
    assert sqlite_path(uri) == path
    assert absolute_uri(uri, Path("/elsewhere")) == uri
    assert absolute_uri(None, path.parent) == uri
    assert redacted(uri) == uri
    assert shlex.split(view_command(uri))[-1] == uri


@steady
@given(NAMES)
def test_artifacts_have_a_uri_that_urllib_reads_back(name):
    folder = Path("/study") / name
    for uri in (beside(folder / "reglab.db"), TrackingSettings.from_config({}, folder).artifacts):
        parts = urlsplit(uri)
        assert (parts.scheme, parts.query, parts.fragment) == ("file", "", "")
        assert url2pathname(parts.path) == str(folder / "mlartifacts")
        assert local_path(uri) == folder / "mlartifacts"


@pytest.mark.parametrize("name", HARD)
def test_sqlalchemy_makes_the_store_in_its_folder_and_nothing_beside_it(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    engine = create_engine(client_uri(absolute_uri(None, folder)))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    engine.dispose()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in folder.iterdir()] == ["reglab.db"]


@pytest.mark.parametrize("path", ["/study/reglab.db", "/a b/é#1/reglab.db", "/100%/reglab.db"])
def test_uris_that_are_kept_in_earlier_runs_are_still_the_same(path):
    assert store_uri(Path(path)) == client_uri(store_uri(Path(path))) == f"sqlite:///{path}"


@pytest.mark.parametrize("uri", ["./mlruns", "file:///study/mlruns", "mlruns", ""])
def test_the_file_store_is_refused(uri):
    with pytest.raises(UserError, match="is no SQLite file and no server"):
        settings(uri=uri)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///a.db?mode=ro"])
def test_a_store_that_workers_cannot_share_is_refused(uri):
    with pytest.raises(UserError, match="plain SQLite file"):
        settings(uri=uri)


def test_a_server_decides_where_its_artifacts_go_unless_told():
    assert settings(uri="http://server:5000").artifacts is None
    assert settings(uri="http://server:5000", artifacts="s3://bucket/x").artifacts == "s3://bucket/x"
    assert settings(artifacts="big disk").artifacts == "file:///study/big%20disk"


def test_wrong_options_name_the_next_step():
    with pytest.raises(UserError, match="did you mean 'experiment'"):
        settings(experimnt="x")
    with pytest.raises(UserError, match=r"tracking\.name=wandb: choose tracking=mlflow"):
        settings(name="wandb")
    with pytest.raises(UserError, match="name the study"):
        settings(experiment=" ")


@pytest.mark.parametrize("points", [1, 0, -3, 2.5, "all", True])
def test_a_budget_that_is_none_is_named(points):
    with pytest.raises(UserError, match=rf"tracking\.points={points}: give a whole number from 2 on, or null"):
        settings(points=points)


def test_the_budget_is_500_points_and_null_means_all():
    assert [settings().points, settings(points=2).points, settings(points=None).points] == [500, 2, None]


def test_a_password_is_taken_out_of_messages():
    assert redacted("http://me:secret@server:5000/x") == "http://server:5000/x"
    assert redacted("sqlite:////study/a.db") == "sqlite:////study/a.db"


def test_only_artifacts_on_this_machine_have_a_path():
    assert local_path("file:///a%20b/c") == Path("/a b/c")
    assert local_path("/a/b") == Path("/a/b")
    assert local_path("mlflow-artifacts:/1/2") is None
    assert local_path("s3://bucket/x") is None
    assert local_path(None) is None


@pytest.mark.parametrize("name", ["mlflow", "offline", "none"])
def test_the_shipped_configs_are_valid(name):
    node = yaml.safe_load((conf_dir() / "tracking" / f"{name}.yaml").read_text())
    assert settings(**node).backend == name


@pytest.mark.parametrize("uri, longest", [(None, 500), ("http://127.0.0.1:5000", 256)])
def test_a_name_that_the_store_does_not_keep_is_refused(uri, longest):
    node = {"uri": uri, "experiment": "x" * longest}
    assert TrackingSettings.from_config(node).experiment == "x" * longest
    with pytest.raises(UserError, match=rf"has {longest + 1} characters, and the store keeps {longest}: choose"):
        TrackingSettings.from_config({**node, "experiment": "x" * (longest + 1)})
