"""One scoring service is taken out; without servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.stack import withdraw as stack_withdraw
from deployments.stack.config import Door, config_path, write_config
from deployments.stack.ports import Ports
from deployments.stack.record import read_ports, write_ports, write_stack
from deployments.stack.services import services
from trimtab.errors import Conflict
from trimtab.settings import Settings
from trimtab.store import os_lock

DOOR = Door(9001, "someone", "secret-word")
PORTS = Ports(scoring={"digits": 8080, "trial": 8081}, pinned={"trial": "digits/3"})
MODULE = "deployments.stack.withdrawal.Supervisor"


class Running:
    """A supervisor that remembers what its configuration said when it was told to follow it."""

    door = DOOR

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.followed: list[str] = []

    def update(self) -> list[str]:
        self.followed.append(config_path(self.settings).read_text())
        return ["scoring-trial"]

    def pid(self) -> int:
        return 1


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path)
    write_ports(settings, PORTS)
    write_config(settings, DOOR, services(settings, PORTS))
    write_stack(settings, PORTS, DOOR, 1)
    return settings


def test_the_supervisor_drops_it_and_nobody_finds_its_address_any_more(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(settings)
    monkeypatch.setattr(f"{MODULE}.find", lambda settings: running)

    assert stack_withdraw(settings, "trial")

    (written,) = running.followed
    assert "scoring-digits" in written
    assert "scoring-trial" not in written
    assert read_ports(settings) == Ports(scoring={"digits": 8080})
    assert Settings.load(settings.home).scoring == {"digits": "http://127.0.0.1:8080"}


def test_while_nothing_runs_it_is_forgotten_all_the_same(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.find", lambda settings: None)

    assert stack_withdraw(settings, "trial")
    assert read_ports(settings) == Ports(scoring={"digits": 8080})


def test_what_is_not_there_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    assert not stack_withdraw(settings, "absent")
    assert not stack_withdraw(Settings(home=tmp_path / "never started"), "trial")
    assert read_ports(settings) == PORTS


def test_not_while_the_stack_comes_up(settings: Settings) -> None:
    with (
        os_lock(settings.locks / "stack.lock", wait=False, what="another"),
        pytest.raises(Conflict, match="already running"),
    ):
        stack_withdraw(settings, "trial")
