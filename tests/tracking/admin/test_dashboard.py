import shlex
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from reglab.core.errors import UserError
from reglab.tracking import open_run
from reglab.tracking.admin import dashboard
from reglab.tracking.admin.dashboard_access import Access
from tracking.admin.terminal import in_terminal

PASSWORD = "a-password-of-this-test"


@pytest.fixture
def uri(tmp_path):
    (tmp_path / "reglab.db").write_bytes(b"SQLite format 3\0")
    return f"sqlite:///{tmp_path}/reglab.db"


@pytest.fixture
def taken():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def users(tmp_path):
    """A function that writes a basic-auth config with a password and returns its path."""

    def write(password=PASSWORD):
        path = tmp_path / "users.ini"
        path.write_text(
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{tmp_path}/users.db\n"
            f"admin_username = admin\nadmin_password = {password}\n"
        )
        return path

    return write


def test_a_taken_port_is_passed_over(taken):
    assert taken < dashboard.free_port("127.0.0.1", taken) <= taken + 49


def test_no_free_port_is_an_error(taken):
    with pytest.raises(UserError, match=f"no free port on 127.0.0.1 from {taken}"):
        dashboard.free_port("127.0.0.1", taken, tries=1)


def test_an_address_of_another_machine_is_an_error():
    with pytest.raises(UserError, match=r"--host 192.0.2.1 is no address of this machine"):
        dashboard.free_port("192.0.2.1", 5000)


def test_the_server_listens_on_loopback_and_runs_no_jobs_and_sends_nothing(uri, taken, monkeypatch, capsys):
    started = []
    for name in ("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    assert dashboard.serve(uri, taken, run=lambda *given: started.append(given) or 0) == 0
    ((command, environment),) = started
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    given = dict(zip(command[4::2], command[5::2], strict=True))
    assert (given["--backend-store-uri"], given["--host"]) == (uri, "127.0.0.1")
    assert int(given["--port"]) > taken
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert f"http://127.0.0.1:{given['--port']}" in capsys.readouterr().out


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "lab.example.org"])
@pytest.mark.parametrize("given", ["nothing", "users", "names"])
def test_others_are_let_in_only_with_users_and_names(users, host, given):
    auth = users() if given == "users" else None
    allowed = ("lab.example.org",) if given == "names" else ()
    with pytest.raises(UserError, match=f"reglab dashboard --host {host} --auth users.ini --allowed-hosts"):
        Access(host, auth, allowed)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_needs_neither_and_answers_to_its_own_names(host):
    options = Access(host).options(5000)
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert (given["--host"], given["--port"]) == (host, "5000")
    named = f"[{host}]:5000" if ":" in host else f"{host}:5000"
    assert {*given["--allowed-hosts"].split(",")} == {"localhost:5000", "127.0.0.1:5000", "[::1]:5000", named}
    assert "*" not in given["--allowed-hosts"] + given["--cors-allowed-origins"]


@pytest.mark.parametrize("password", ["password1234", "password", ""])
def test_a_password_that_everybody_knows_is_refused(users, password):
    with pytest.raises(UserError, match="admin_password"):
        Access("0.0.0.0", users(password), ("lab.example.org",))


def test_a_file_that_says_nothing_of_users_is_refused(tmp_path):
    (tmp_path / "wrong.ini").write_text("[other]\n")
    for name in ("wrong.ini", "missing.ini"):
        with pytest.raises(UserError, match=name):
            Access("0.0.0.0", tmp_path / name, ("lab.example.org",))


@pytest.mark.parametrize("name", ["*", "", "*.example.org", "10.*", "?ab.example.org"])
def test_every_name_is_none(users, name):
    with pytest.raises(UserError, match="without"):
        Access("0.0.0.0", users(), (name,))


def test_an_address_of_ipv6_is_no_pattern(users):
    options = Access("::", users(), ("[2001:db8::1]",)).options(5000)
    assert "[2001:db8::1]:5000" in options[options.index("--allowed-hosts") + 1].split(",")
    assert "[2001:db8::1]:*" not in " ".join(options)


def test_users_and_names_reach_the_server(users):
    path = users()
    access = Access("0.0.0.0", path, ("lab.example.org",))
    options = access.options(5000)
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert given["--app-name"] == "basic-auth"
    assert {"lab.example.org", "lab.example.org:*"} <= set(given["--allowed-hosts"].split(","))
    assert "http://lab.example.org:*" in given["--cors-allowed-origins"].split(",")
    environment = dashboard.server_environment(access)
    assert environment["MLFLOW_AUTH_CONFIG_PATH"] == str(path)
    assert len(environment["MLFLOW_FLASK_SERVER_SECRET_KEY"]) >= 32
    assert environment != dashboard.server_environment(access)


def test_the_server_imports_nothing_of_the_working_folder(uri, tmp_path, monkeypatch):
    """It may be a stranger's: Python would look there first for ``python -m mlflow``, uvicorn for its application."""
    for name in ("mlflow", "click", "flask", "uvicorn", "fastapi"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    command, environment = dashboard.server_command(uri, 5000, Access()), dashboard.server_environment(Access())
    ended = subprocess.run([*command[:3], "--version"], env=environment, capture_output=True, text=True, check=True)
    assert "mlflow" in ended.stdout
    assert not (tmp_path / "ran").exists()
    options = shlex.split(command[command.index("--uvicorn-opts") + 1])
    assert Path(options[options.index("--app-dir") + 1]) == Path(sysconfig.get_path("purelib"))


def test_ctrl_c_in_a_terminal_ends_all_of_it_quietly(settings, users, tmp_path):
    """And what its process and its answers say of the settings, with users and names, as others would reach it."""
    words = ("--port", "5600", "--auth", str(users()), "--allowed-hosts", "lab.example.org")
    found = in_terminal(tmp_path, ("dashboard", *words), PASSWORD)
    assert found["answers"] == {
        "nobody": 401,
        "admin": 200,
        "admin of another name": 200,
        "foreign host": 403,
        "foreign origin": 403,
        "own origin": 200,
        "browser sends nothing": True,
    }
    assert found["jobs"] == []
    assert found["code"] == 0
    assert found["left"] == []
    assert "Traceback" not in found["after"]
    assert "Error" not in found["after"]


def test_nothing_to_show_yet(tmp_path):
    with pytest.raises(UserError, match="Run something first"):
        dashboard.serve(f"sqlite:///{tmp_path}/reglab.db")


def test_a_server_has_a_dashboard_of_its_own():
    with pytest.raises(UserError, match="on the server http://server:5000: open that address"):
        dashboard.serve("http://me:secret@server:5000")


def test_the_address_leads_to_the_runs(settings, tmp_path):
    assert dashboard.latest_page(settings.uri) == ""
    tracker = open_run(settings, name="job", folder=tmp_path / "run", config={}, params={}, tags={})
    tracker.finish()
    page = dashboard.latest_page(settings.uri)
    assert page == f"#/experiments/{get_run_experiment(settings.uri, tracker.run_id)}?workflowType=machine_learning"


def get_run_experiment(uri, run_id):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri).get_run(run_id).info.experiment_id
