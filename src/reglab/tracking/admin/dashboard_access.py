"""Access to the dashboard: host, users, allowed hosts.

Loopback only, or other machines with a password and named hosts.
"""

import configparser
import importlib.util
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from reglab.core.errors import UserError

# In MLflow's documentation, and the default of older versions.
_KNOWN_PASSWORDS = {"password", "password1234"}
_PAGE = "docs/server.md shows the file"


@dataclass(frozen=True)
class Access:
    """Access to the dashboard.

    Args:
        host: The address to listen on.
        auth: MLflow's basic-auth config.
        allowed: The host names that it accepts.
    """

    host: str = "127.0.0.1"
    auth: Path | None = None
    allowed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise UserError where other machines could connect without users and named hosts."""
        if any(name in ("", "*") for name in self.allowed):
            raise UserError(f"--allowed-hosts {','.join(self.allowed)}: name each address that browsers use, without *")
        if not is_loopback(self.host) and not (self.auth and self.allowed):
            raise UserError(
                f"--host {self.host} accepts connections from other machines: name users and addresses with reglab "
                f"dashboard --host {self.host} --auth users.ini --allowed-hosts lab.example.org ({_PAGE})"
            )
        if self.auth:
            _check_users(self.auth)

    def options(self, port: int) -> list[str]:
        """Return the command-line options of MLflow's server."""
        options = ["--host", self.host, "--port", str(port)]
        if self.allowed:
            # A browser names the port too; it sends its page's address as origin with everything
            # that it changes.
            names = [each for name in self.allowed for each in (name, f"{name}:*")]
            origins = [f"{scheme}://{name}" for name in names for scheme in ("http", "https")]
            local = [f"{name}:{port}" for name in ("localhost", "127.0.0.1")]
            options += ["--allowed-hosts", ",".join(names + local), "--cors-allowed-origins", ",".join(origins)]
        return [*options, "--app-name", "basic-auth"] if self.auth else options


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_users(path: Path) -> None:
    parser = configparser.ConfigParser()
    try:
        files_read = parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UserError(f"--auth {path} is no config of MLflow's basic auth ({error}): {_PAGE}") from error
    if not files_read:
        raise UserError(f"--auth {path}: there is no such file, or it cannot be read; {_PAGE}")
    values = dict(parser["mlflow"]) if parser.has_section("mlflow") else {}
    values["admin_password"] = os.environ.get("MLFLOW_AUTH_ADMIN_PASSWORD", values.get("admin_password", ""))
    values["admin_username"] = os.environ.get("MLFLOW_AUTH_ADMIN_USERNAME", values.get("admin_username", ""))
    for key in ("default_permission", "database_uri", "admin_username", "admin_password"):
        if not values.get(key):
            raise UserError(f"--auth {path} lacks {key} in its section [mlflow]: {_PAGE}")
    if values["admin_password"] in _KNOWN_PASSWORDS:
        raise UserError(f"--auth {path}: everybody knows this admin_password; choose another, of 12 characters or more")
    if importlib.util.find_spec("flask_wtf") is None:
        raise UserError("--auth needs a package that is not installed: pip install 'mlflow[auth]'")
