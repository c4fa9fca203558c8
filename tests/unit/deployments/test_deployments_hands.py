"""The process that watches hands in MLflow: when it has a name settled, when it waits, and how others see it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from deployments.hands import settle as settling
from deployments.hands import watch as watching
from deployments.hands.beat import STALE_S, beat, beat_file, beats
from deployments.hands.settle import give_alerts
from deployments.hands.watch import FIRST_WAIT_S, LAST_RETRY_S, LAST_WAIT_S, NAMES_S, Watch
from deployments.stack.ports import Ports
from deployments.stack.services import services
from trimtab.errors import RegistryError, StateError
from trimtab.ledger import Ledger
from trimtab.registry.glance import Glance
from trimtab.registry.names import lock_file
from trimtab.registry.shown import Shown
from trimtab.settings import Settings
from trimtab.store import os_lock

STEP = Shown({"champion": 1}, {1: "Production", 2: "None"}, {1: 1, 2: 1})
MOVED = Shown({"champion": 2}, STEP.stages, STEP.touched)


class Place:
    """A name on an MLflow of which each request is counted, and a watch that settles by a function of the test."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.settings = Settings(home=home, mlflow_tracking_uri="http://mlflow")
        self.clock, self.time = 0.0, datetime(2026, 1, 1, tzinfo=UTC)
        self.ledger = Ledger(self.settings.ledger, clock=lambda: self.time)
        self.shown, self.down, self.works = STEP, False, True
        self.glances, self.looks = 0, 0
        self.settled, self.said = list[str](), list[str]()
        patch.setattr(watching, "glance", self._glance)
        patch.setattr(watching, "shown", self._shown)
        self.ledger.record("versions/digits", {"act": "registered", "version": 1, "release_key": "k"}, None)
        intent = {"act": "promoting", "kind": "promote", "version": 1, "from": None, "who": "ann", "why": "passed"}
        self.record({**intent, "evidence": None})
        self.record({"act": "promoted", "intent": 1})
        self.time += timedelta(hours=1)
        self.watch = Watch(self.settings, self._settle, self.said.append, lambda: self.clock, lambda: self.time)

    def record(self, entry: dict[str, object], stream: str = "promotions/digits") -> None:
        self.ledger.record(stream, entry, None)

    def _glance(self, uri: str, name: str) -> Glance:
        self.glances += 1
        if self.down:
            raise RegistryError("the MLflow server does not answer", where=uri)
        return Glance(tuple(sorted(self.shown.aliases.items())), max(self.shown.touched.values()))

    def _shown(self, uri: str, name: str) -> Shown:
        self.looks += 1
        return self.shown

    def _settle(self, name: str) -> bool:
        self.settled.append(name)
        return self.works


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_in_step_one_request_a_round_is_all_and_nothing_is_written(place: Place) -> None:
    for _ in range(5):
        assert place.watch.round() is None

    assert (place.glances, place.looks, place.settled, place.said) == (6, 1, [], [])  # the first looks twice, locked
    assert place.ledger.head("promotions/digits") == 2


def test_a_hand_is_settled_once_and_what_cannot_be_mended_is_not_tried_again_and_again(place: Place) -> None:
    place.watch.round()
    place.shown = MOVED
    for _ in range(3):
        place.watch.round()

    assert place.settled == ["digits"]
    assert place.said == ["digits: alias of champion at 2, the ledger says 1"]
    place.shown = Shown({}, STEP.stages, STEP.touched)
    place.watch.round()
    assert place.settled == ["digits", "digits"]


def test_what_settling_changed_is_looked_at_once_more(place: Place) -> None:
    place.shown = MOVED
    place.watch.round()
    place.shown = STEP  # put back
    place.watch.round()
    place.watch.round()

    assert place.settled == ["digits"]
    assert place.looks == 2


def test_a_stage_shows_by_the_time_of_change_alone(place: Place) -> None:
    place.watch.round()
    place.shown = Shown(STEP.aliases, {1: "Production", 2: "Production"}, {1: 1, 2: 2})
    place.watch.round()

    assert place.settled == ["digits"]


def test_while_a_promotion_of_ours_holds_the_lock_nothing_is_done_and_afterwards_it_is_looked_at(place: Place) -> None:
    place.shown = MOVED
    with os_lock(lock_file(place.settings.locks, "promote", "digits"), wait=False, what="a promotion"):
        place.watch.round()
        assert (place.settled, place.looks) == ([], 0)
    place.watch.round()

    assert place.settled == ["digits"]


def test_an_intent_of_another_machine_has_a_minute_then_it_was_cut_short(place: Place) -> None:
    place.record({"act": "promoting", "kind": "promote", "version": 2, "from": 1, "who": "ann", "why": "passed"})
    place.watch.round()
    assert place.settled == []
    place.time += timedelta(seconds=61)
    place.watch.round()

    assert place.settled == ["digits"]


def test_an_alert_that_is_owed_is_seen_whoever_put_the_version_back(place: Place) -> None:
    place.watch.round()
    place.record({"act": "restored", "refused": 2, "version": 1, "why": "no gate", "who": "by hand in MLflow"})
    place.watch.round()
    assert place.settled == ["digits"]
    assert place.said[0].startswith("digits: no alert yet: version 2 was put in Production by hand")

    place.record({"episode": "hand-digits-3", "cause": "hand in MLflow"}, "alerts/digits")
    place.record({"act": "staging", "version": 2, "from": "None", "to": "Staging", "who": "a", "why": "b"})
    place.record({"act": "staged", "intent": 4})
    place.watch.round()
    assert place.settled == ["digits"]


def test_what_could_not_be_settled_is_tried_again_ever_more_rarely_and_a_new_hand_at_once(place: Place) -> None:
    place.works, place.shown = False, MOVED
    waited = []
    for _ in range(12):
        before = len(place.settled)
        while len(place.settled) == before:
            place.watch.round()
            place.clock += 1
        waited.append(place.clock)
    gaps = [later - earlier for earlier, later in itertools.pairwise(waited)]
    assert gaps == sorted(gaps)
    assert gaps[0] < 10
    assert gaps[-1] == LAST_RETRY_S

    place.shown = Shown({"champion": 3}, STEP.stages, STEP.touched)
    place.watch.round()
    assert len(place.settled) == 13


def test_a_server_that_is_down_is_said_once_asked_ever_more_rarely_and_outlived(place: Place) -> None:
    place.watch.round()
    last = beat_file(place.settings.home).stat().st_mtime_ns
    place.down, place.shown = True, MOVED
    waits = [place.watch.round() for _ in range(6)]

    assert waits[0] == FIRST_WAIT_S
    assert waits[-1] == LAST_WAIT_S
    assert waits == sorted(waits, key=lambda one: one or 0)
    assert len(place.said) == 1
    assert beat_file(place.settings.home).stat().st_mtime_ns == last
    place.down = False
    assert place.watch.round() is None
    assert place.said[-1] == "everything answers again"
    assert place.settled == ["digits"]


def test_a_name_in_trouble_does_not_keep_the_others_waiting(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.record({"act": "registered", "version": 1, "release_key": "k"}, "versions/a-first")

    def glance(uri: str, name: str) -> Glance:
        if name == "a-first":
            raise RegistryError("MLflow answered 500", where=uri)
        return place._glance(uri, name)

    monkeypatch.setattr(watching, "glance", glance)
    place.shown = MOVED

    assert place.watch.round() is not None
    assert place.settled == ["digits"]


def test_a_new_name_is_found(place: Place) -> None:
    place.watch.round()
    place.shown = MOVED
    place.record({"act": "registered", "version": 1, "release_key": "k"}, "versions/other")
    place.clock += NAMES_S
    place.watch.round()

    assert place.settled == ["digits", "other"]


def test_it_is_ready_by_a_beat_of_its_own_that_is_fresh(tmp_path: Path) -> None:
    path = beat_file(tmp_path)
    assert not beats(path, 0)
    beat(path)
    now = path.stat().st_mtime
    assert beats(path, now - 1)
    assert not beats(path, now + 1)  # of the process before
    os.utime(path, (now - STALE_S - 1, now - STALE_S - 1))
    assert not beats(path, 0)


def test_the_stack_has_it_and_no_release_waits_for_it(tmp_path: Path) -> None:
    (found,) = (one for one in services(Settings(home=tmp_path), Ports(mlflow=5001)) if one.name == "registry-watch")

    assert not found.needed
    assert found.beat == beat_file(tmp_path)
    assert found.command[-4:] == ("--home", str(tmp_path), "--mlflow", "http://127.0.0.1:5001")


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("deployments.hands.__main__", {"mlflow", "prefect", "sqlalchemy", "httpx", "pydantic"}),
        ("deployments.hands.watch", {"mlflow", "prefect", "torch", "pandas", "pyarrow"}),
    ],
)
def test_what_runs_all_the_time_imports_nothing_heavy(module: str, without: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({without!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


def test_owed_alerts_are_given_by_the_flow_and_one_that_fails_stays_owed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, str]] = []
    place.record({"act": "restored", "refused": 2, "version": 1, "why": "no gate", "who": "by hand in MLflow"})

    def alert(**said: str) -> None:
        if place.down:
            raise RuntimeError("Failed to reach API")
        given.append(said)
        place.record(dict(said), "alerts/digits")

    monkeypatch.setattr(settling, "apply", lambda settings: None)
    monkeypatch.setitem(sys.modules, "flows.alert", SimpleNamespace(alert=alert))
    place.down = True
    with pytest.raises(StateError, match="could not be given: Failed to reach API"):
        give_alerts(place.settings, "digits")
    place.down = False

    (subject,) = give_alerts(place.settings, "digits")
    assert give_alerts(place.settings, "digits") == []
    assert [(one["name"], one["subject"], one["episode"]) for one in given] == [("digits", subject, "hand-digits-3")]
