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
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
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
        if any(name == "" or "*" in name or "?" in name for name in self.allowed):
            raise UserError(f"--allowed-hosts {','.join(self.allowed)}: name each address that browsers use, without *")
        if not is_loopback(self.host) and not (self.auth and self.allowed):
            raise UserError(
                f"--host {self.host} accepts connections from other machines: name users and addresses with reglab "
                f"dashboard --host {self.host} --auth users.ini --allowed-hosts lab.example.org ({_PAGE})"
            )
        if self.auth:
            _check_users(self.auth)

    def options(self, port: int) -> list[str]:
        """Return the command-line options of MLflow's server.

        It is always told to which names it answers: by default that is also every name that begins
        like an address of a private network, such as ``10.somebody.com``, by which a page of
        somebody else's reads what it serves (DNS rebinding).
        """
        # A browser names the port too; it sends its page's address as origin with everything that
        # it changes. A bracket would begin a pattern.
        names = [each for name in self.allowed for each in (name, f"{name}:{port if '[' in name else '*'}")]
        local = [f"{name}:{port}" for name in dict.fromkeys((*_LOCAL, *self._own_name()))]
        origins = [f"{scheme}://{name}" for name in names + local for scheme in ("http", "https")]
        options = [
            *("--host", self.host, "--port", str(port), "--allowed-hosts", ",".join(names + local)),
            *("--cors-allowed-origins", ",".join(origins), "--x-frame-options", "SAMEORIGIN"),
        ]
        return [*options, "--app-name", "basic-auth"] if self.auth else options

    def _own_name(self) -> tuple[str, ...]:
        """Return the address to listen on as a browser writes it; none for all addresses."""
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return (self.host,)
        return () if address.is_unspecified else (f"[{address}]" if address.version == 6 else str(address),)


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
