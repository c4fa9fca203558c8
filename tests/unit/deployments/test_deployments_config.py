"""supervisord.conf, read back by supervisor itself."""

from __future__ import annotations

import json
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
from supervisor.options import ServerOptions

from deployments.stack.config import Door, config_path, new_door, read_door, render, write_config
from deployments.stack.ports import Ports
from deployments.stack.record import read_ports, remove_stack, write_ports, write_stack
from deployments.stack.services import Service, services
from trimtab.errors import StateError
from trimtab.settings import Settings

DOOR = Door(9001, "someone", "secret-word")
PORTS = Ports(scoring={"digits": 8080})


def understood(settings: Settings) -> dict[str, Any]:
    """Program name → what supervisor makes of its section."""
    (settings.home / "logs").mkdir(parents=True, exist_ok=True)
    options = ServerOptions()
    options.configfile = str(config_path(settings))
    options.process_config(do_usage=False)
    return {group.name: group.process_configs[0] for group in options.process_group_configs}


@pytest.mark.parametrize("folder", ["plain", "100% odd", 'it\'s "here"', "%(here)s", "a;b#c"])
def test_supervisor_reads_back_the_command_and_the_paths_of_any_folder(tmp_path: Path, folder: str) -> None:
    settings = Settings(home=tmp_path / folder)
    wanted = services(settings, PORTS)
    write_config(settings, DOOR, wanted)

    programs = understood(settings)

    assert set(programs) == {"prefect", "mlflow", "worker", "evidently", "registry-watch", "scoring-digits"}
    for service in wanted:
        assert tuple(shlex.split(programs[service.name].command)) == service.command
        assert programs[service.name].stdout_logfile == str(settings.logs / f"{service.name}.log")
        assert programs[service.name].environment == {"TRIMTAB_SERVICE": service.name}
        assert programs[service.name].killasgroup


def test_a_path_that_the_format_cannot_carry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot stand in a path"):
        render(Settings(home=tmp_path / "a ;b"), DOOR, [])


def test_the_file_is_for_its_owner_only_and_gives_the_door_back(tmp_path: Path) -> None:
    settings, door = Settings(home=tmp_path), new_door(9001)
    write_config(settings, door, [])

    assert stat.S_IMODE(config_path(settings).stat().st_mode) == 0o600
    assert read_door(settings) == door
    assert new_door(9001).password != door.password


def test_without_a_readable_file_there_is_no_door(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert read_door(settings) is None
    config_path(settings).parent.mkdir(parents=True)
    config_path(settings).write_text("[inet_http_server]\nport=nonsense\n")
    assert read_door(settings) is None


def test_equal_settings_give_an_equal_file(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    one, other = ([*services(settings, PORTS)] for _ in range(2))

    assert render(settings, DOOR, one) == render(settings, DOOR, other)


def test_every_server_listens_on_loopback_and_mlflow_keeps_everything_below_the_state_directory(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    by_name: dict[str, Service] = {service.name: service for service in services(settings, PORTS)}

    for name in ("prefect", "mlflow", "evidently", "scoring-digits"):
        command = by_name[name].command
        assert command[command.index("--host") + 1] == "127.0.0.1"
    mlflow = " ".join(by_name["mlflow"].command)
    assert f"sqlite:///{tmp_path}/mlflow/mlflow.db" in mlflow
    assert f"--artifacts-destination {tmp_path}/mlflow/artifacts" in mlflow


def test_the_addresses_are_found_by_the_settings_and_the_password_is_not_written(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    write_stack(settings, PORTS, DOOR, pid=17)

    found = Settings.load(tmp_path)

    assert found.prefect_api_url == "http://127.0.0.1:4200/api"
    assert found.mlflow_tracking_uri == "http://127.0.0.1:5000"
    assert found.scoring_for("digits") == "http://127.0.0.1:8080"
    text = (tmp_path / "stack.json").read_text()
    assert json.loads(text)["supervisor_pid"] == 17
    assert DOOR.password not in text
    remove_stack(settings)
    assert Settings.load(tmp_path).prefect_api_url is None


def test_ports_are_remembered_and_a_broken_memory_is_none(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    write_ports(settings, PORTS)
    assert read_ports(settings) == PORTS
    (tmp_path / "supervisor" / "ports.json").write_text("{")
    assert read_ports(settings) is None


def test_a_pinned_service_is_told_what_to_serve_and_the_ports_file_remembers_it(tmp_path: Path) -> None:
    settings, ports = (
        Settings(home=tmp_path),
        Ports(scoring={"digits": 8080, "trial": 8081}, pinned={"trial": "digits/3"}),
    )
    commands = {service.name: service.command for service in services(settings, ports)}

    assert commands["scoring-trial"][-2:] == ("--release", "digits/3")
    assert "--release" not in commands["scoring-digits"]
    write_ports(settings, ports)
    assert read_ports(settings) == ports
