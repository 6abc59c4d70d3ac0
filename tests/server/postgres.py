"""A PostgreSQL cluster of its own in a temporary folder, on loopback."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg
from scripts.chaos.mlflow_server import free_port

PASSWORD = "of the database"
_USER = "mlflow"


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest version's.

    None where it is not installed.
    """
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    found = str(installed[-1]) if installed else shutil.which("initdb")
    return Path(found).parent if found else None


class Cluster:
    """Starts on construction; ``stop`` removes it.

    Raises CalledProcessError with what PostgreSQL said.
    """

    def __init__(self, programs: Path) -> None:
        # Not under pytest's folder, which only its owner may enter: PostgreSQL refuses to run as
        # root.
        self._folder = Path(tempfile.mkdtemp(prefix="reglab-postgres-"))
        self._programs = programs
        self._port = free_port()
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if os.getuid() == 0:
            for path in (self._folder, password):
                shutil.chown(path, "postgres", "postgres")
        self._call("initdb", "-U", _USER, "-A", "scram-sha-256", "--pwfile", str(password), "-E", "UTF8", "--no-sync")
        settings = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._call("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", settings, "start")

    def create(self, database: str) -> str:
        """Make a database and return its URI, as SQLAlchemy reads it."""
        address = ("-h", "127.0.0.1", "-p", str(self._port), "-U", _USER)
        known = os.environ | {"PGPASSWORD": PASSWORD}
        subprocess.run([str(self._programs / "createdb"), *address, database], check=True, env=known)
        secret = PASSWORD.replace(" ", "%20")
        return f"postgresql+psycopg://{_USER}:{secret}@127.0.0.1:{self._port}/{database}"

    def rows(self, run_id: str) -> dict[str, list[tuple[int, float]]]:
        """Return every (step, value) of a run's metrics in the database ``mlflow``, by step."""
        query = "SELECT key, step, value FROM metrics WHERE run_uuid = %s ORDER BY key, step"
        found: dict[str, list[tuple[int, float]]] = {}
        address = {"host": "127.0.0.1", "port": self._port, "user": _USER, "password": PASSWORD, "dbname": "mlflow"}
        with psycopg.connect(**address) as database:
            for key, step, value in database.execute(query, [run_id]):
                found.setdefault(key, []).append((step, value))
        return found

    def stop(self) -> None:
        """End it and remove all that it kept."""
        self._call("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(self._folder)

    def _call(self, program: str, *words: str) -> None:
        """Run one of PostgreSQL's programs on the cluster.

        Output to a file: a server would hold a pipe.
        """
        own = ("runuser", "-u", "postgres", "--") if os.getuid() == 0 else ()
        command = [*own, str(self._programs / program), "-D", str(self._folder / "data"), *words]
        with tempfile.TemporaryFile("w+") as said:
            code = subprocess.run(command, cwd=self._folder, stdout=said, stderr=said).returncode
            said.seek(0)
            if code:
                raise subprocess.CalledProcessError(code, command, said.read())
