"""The last step of a release: the version becomes champion, or challenger while it has yet to show what is asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from tasks import promote as module
from trimtab.registry.alias import Champion
from trimtab.registry.evidence import Unproven

BENCH = SimpleNamespace(settings=None, recipe=SimpleNamespace(name="digits"))


class Registry:
    """What the step asks of the registry, in memory; `unproven` refuses every promotion."""

    def __init__(self, patch: pytest.MonkeyPatch, champion: int | None, unproven: bool) -> None:
        self.champion_version, self.unproven = champion, unproven
        self.promoted: list[int] = []
        self.challenged: list[int] = []
        patch.setattr(module, "Registry", SimpleNamespace(from_settings=lambda settings: self))
        patch.setattr(module, "reconcile", lambda registry, name: [])
        patch.setattr(module, "champion", self._champion)
        patch.setattr(module, "move", self._move)
        patch.setattr(module, "challenge", lambda registry, name, version, **_: self.challenged.append(version))

    def _champion(self, registry: Any, name: str) -> Champion | None:
        return None if self.champion_version is None else Champion(self.champion_version, None)

    def _move(self, registry: Any, name: str, version: int, **_: Any) -> None:
        if self.unproven:
            raise Unproven("has not shown enough")
        self.promoted.append(version)


def serving(registry: Registry, version: int) -> int:
    with disable_run_logger():
        found: int = module.promote_version.fn(BENCH, version, "a reason")  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("champion", "unproven", "serves", "promoted", "challenged"),
    [(None, False, 2, [2], []), (1, False, 2, [2], []), (1, True, 1, [], [2]), (2, True, 2, [], [])],
)
def test_the_step_says_what_serves(
    monkeypatch: pytest.MonkeyPatch,
    champion: int | None,
    unproven: bool,
    serves: int,
    promoted: list[int],
    challenged: list[int],
) -> None:
    registry = Registry(monkeypatch, champion, unproven)
    assert serving(registry, 2) == serves
    assert (registry.promoted, registry.challenged) == (promoted, challenged)
