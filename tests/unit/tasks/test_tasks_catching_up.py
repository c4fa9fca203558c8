"""What a monitor run makes up for: a proposal that nobody approved ends, is said once, and its run does not wait on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import disable_run_logger

from tasks import catching_up, leftovers, react
from trimtab import reactions
from trimtab.errors import StateError
from trimtab.monitoring.policy import Decision, about
from trimtab.settings import Settings
from trimtab.watch import Watch

DECISION = Decision("retrain", "because", "abc", "damage", "episode")


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    (tmp_path / "recipe.yaml").write_text("name: demo\nmodel: net:build\ndata: net:split\n")
    return Watch(tmp_path / "recipe.yaml", Settings(home=tmp_path / "home", mlflow_tracking_uri="http://unused"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Deployments that were run."""
    runs: list[dict[str, Any]] = []
    monkeypatch.setattr(catching_up, "run_deployment", lambda name, **given: runs.append({"name": name, **given}))
    return runs


def test_an_expired_proposal_is_recorded_cancelled_and_said_until_the_ledger_has_it(
    watch: Watch, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled: list[str] = []
    monkeypatch.setattr(catching_up, "cancel_waiting", lambda run, why: cancelled.append(run))
    reactions.propose(watch.ledger, "demo", DECISION, "run-1", expires=1000.0)

    with disable_run_logger():
        catching_up.say_expired(watch)
        catching_up.say_expired(watch)  # the alert may have been lost: asked for again, under the same key

    assert cancelled == ["run-1", "run-1"]
    first, second = started
    assert first["idempotency_key"].startswith("alert expired-abc ")
    said = first["parameters"]
    assert said == second["parameters"]
    assert "the retrain proposed on" in said["subject"]
    assert (said["body"], said["cause"], said["episode"]) == (about("abc"), "proposal", "expired-abc")

    watch.ledger.record(reactions.alerts_stream("demo"), said, None)
    with disable_run_logger():
        catching_up.say_expired(watch)
    assert len(started) == 2


def test_a_proposal_that_can_still_be_approved_is_left_alone(watch: Watch, started: list[dict[str, Any]]) -> None:
    watch.propose(DECISION, "run-1")
    catching_up.say_expired(watch)
    assert started == []
    assert watch.book().waiting()


def test_a_click_on_resume_that_comes_too_late_is_refused(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(react, "flow_run", SimpleNamespace(get_id=lambda: "run-1"))
    reactions.propose(watch.ledger, "demo", DECISION, "run-1", expires=1000.0)

    with pytest.raises(StateError, match="has expired"):
        react.resumed(watch, "abc")

    assert watch.book().approved == frozenset()


@pytest.mark.parametrize(("state", "expected"), [(StateType.PAUSED, True), (StateType.COMPLETED, False), (None, False)])
def test_only_a_run_that_waits_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, state: StateType | None, expected: bool
) -> None:
    states: list[Any] = []

    class Client:
        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None: ...

        def read_flow_run(self, identity: Any) -> Any:
            if state is None:
                raise ObjectNotFound(Exception())
            return SimpleNamespace(id=identity, name="react", state_type=state)

        def set_flow_run_state(self, identity: Any, given: Any) -> None:
            states.append(given.type)

    monkeypatch.setattr(leftovers, "get_client", lambda sync_client: Client())

    with disable_run_logger():
        assert leftovers.cancel_waiting(str(uuid4()), "nobody approved it") is expected
        assert leftovers.cancel_waiting("no run", "nobody approved it") is False

    assert states == ([StateType.CANCELLED] if expected else [])
