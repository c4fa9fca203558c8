"""supervisord.conf: generated whole from the services, so that equal settings give an equal file."""

from __future__ import annotations

import configparser
import re
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployments.stack.ports import HOST
from deployments.stack.services import Service
from trimtab.errors import StateError
from trimtab.settings import Settings
from trimtab.store import write_atomic

MARKER = "TRIMTAB_SERVICE"  # in the environment of each server: how leftovers are recognised
START_S = 10  # longer than an import takes, so that a server that cannot start counts as failed


@dataclass(frozen=True)
class Door:
    """Where supervisord listens. TCP, not a unix socket: the path of one is limited to 107 bytes."""

    port: int
    user: str
    password: str

    @property
    def url(self) -> str:
        """Address of its XML-RPC server, with the password in it."""
        return f"http://{self.user}:{self.password}@{HOST}:{self.port}/RPC2"


def config_path(settings: Settings) -> Path:
    """Where the generated file lies."""
    return settings.home / "supervisor" / "supervisord.conf"


def pid_path(settings: Settings) -> Path:
    """Where supervisord writes its process id."""
    return settings.home / "supervisor" / "supervisord.pid"


def new_door(port: int) -> Door:
    """A door with a random user and password."""
    return Door(port, secrets.token_hex(8), secrets.token_hex(24))


def read_door(settings: Settings) -> Door | None:
    """The door of the written configuration; None where there is none that can be read."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(config_path(settings).read_text())
        section = parser["inet_http_server"]
        return Door(int(section["port"].rpartition(":")[2]), section["username"], section["password"])
    except (OSError, configparser.Error, KeyError, ValueError):
        return None


def write_config(settings: Settings, door: Door, services: Sequence[Service]) -> None:
    """Write the file, readable by its owner only (it holds the password)."""
    write_atomic(config_path(settings), render(settings, door, services).encode())
    config_path(settings).chmod(0o600)


def render(settings: Settings, door: Door, services: Sequence[Service]) -> str:
    """The text of supervisord.conf.

    Raises:
        StateError: the state directory has a name the format cannot carry.
    """
    sections = [_supervisord(settings, door), *(_program(settings, service) for service in services)]
    return "\n".join(sections)


def _supervisord(settings: Settings, door: Door) -> str:
    log = settings.logs / "supervisor.log"
    return f"""[supervisord]
pidfile={_value(pid_path(settings))}
logfile={_value(log)}
logfile_maxbytes=2MB
logfile_backups=2
childlogdir={_value(settings.logs)}
directory={_value(settings.home)}
identifier=trimtab

[inet_http_server]
port={HOST}:{door.port}
username={door.user}
password={door.password}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=http://{HOST}:{door.port}
username={door.user}
password={door.password}
"""


def _program(settings: Settings, service: Service) -> str:
    return f"""[program:{service.name}]
command={_value(shlex.join(service.command))}
directory={_value(settings.home)}
environment={MARKER}="{service.name}"
autostart=true
autorestart=true
startsecs={START_S}
startretries=5
stopsignal=TERM
stopwaitsecs={service.stop_s}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={_value(settings.logs / service.name, expanded=2)}.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=3
"""


def _value(text: str | Path, expanded: int = 1) -> str:
    """A value of the file; what cannot be escaped is refused.

    Args:
        expanded: how often supervisor 4.3.0 expands %(name)s in this value (twice in the names of child logs); each
            time halves the percent signs.
    """
    text = str(text)
    if re.search(r"[\r\n]|\s[;#]", text):
        raise StateError(
            "a line break, or a blank before ; or #, cannot stand in a path of the supervisor's configuration",
            where=text,
            fix="choose another state directory with TRIMTAB_HOME or --home",
        )
    return text.replace("%", "%" * 2**expanded)
