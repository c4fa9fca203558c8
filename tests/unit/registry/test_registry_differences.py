"""What a hand in MLflow set: what differs from the ledger, and what is done about it."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow_in_memory import NAME, World

from trimtab.ledger import Entry
from trimtab.registry import allowance, failpoint, hands, promotions
from trimtab.registry.alias import as_shown
from trimtab.registry.challenges import Challenges, read_challenges
from trimtab.registry.examine import examine
from trimtab.registry.hands import Hand, differences, is_under_way, seen
from trimtab.registry.history import changes
from trimtab.registry.promote import promote, reconcile, rollback
from trimtab.registry.promotions import OUTSIDE, Log, Promotion, read_log
from trimtab.registry.shown import Shown
from trimtab.registry.staging_log import Staging
from trimtab.registry.unsaid import unsaid

LATER = {1: "Archived", 2: "None", 3: "None"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Versions 1, 2 and 3 are registered, 9 by somebody else; 1 served, 2 serves."""
    world = World(tmp_path, monkeypatch)
    for version in (1, 2, 3):
        world.release(version)
    world.made_elsewhere(9)
    for version in (1, 2):
        promote(world.registry, NAME, version, who="ann", why="passed")
    return world


def by_hand(world: World, version: int | None, *, archive: bool = False) -> None:
    """A stage set in the UI, with its box "transition existing versions to Archived" or without."""
    for other, found in world.client.versions.items():
        if archive and found.current_stage == "Production" and other != version:
            world.client.transition_model_version_stage(NAME, str(other), "Archived")
    world.client.transition_model_version_stage(NAME, str(version), "Production")


def state(world: World) -> tuple[int | None, int | None, list[int], int | None]:
    """Champion, previous, versions in Production, and the champion by the ledger."""
    production = [version for version, one in world.client.versions.items() if one.current_stage == "Production"]
    at = world.client.aliases
    return at.get("champion"), at.get("previous"), production, read_log(world.registry.ledger, NAME).champion


def entries(world: World) -> list[Entry]:
    return world.registry.ledger.read(promotions.stream(NAME))


def differing(world: World) -> list[str]:
    ledger = world.registry.ledger
    return differences(read_log(ledger, NAME), read_challenges(ledger, NAME), None, as_shown(world.client, NAME))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("champion", "aliases", "production", "hand"),
    [
        (2, {"champion": 2}, {2}, None),
        (None, {}, set(), None),
        (2, {"champion": 3}, {2}, Hand("alias", 3)),
        (2, {"champion": 3}, {2, 1}, Hand("alias", 3)),  # both halves: the alias is the contract
        (2, {"champion": 2}, {2, 3}, Hand("stage", 3)),
        (2, {"champion": 2}, {1}, Hand("stage", 1)),
        (2, {}, {2}, Hand("alias", None)),
        (2, {}, {1, 2}, Hand("stage", 1)),
        (2, {"champion": 2}, set(), Hand("stage", None)),
        (None, {"champion": 1}, set(), Hand("alias", 1)),
        (None, {}, {1}, Hand("stage", 1)),
    ],
)
def test_what_was_meant_is_read_off_alias_and_stages(
    champion: int | None, aliases: dict[str, int], production: set[int], hand: Hand | None
) -> None:
    stages = {version: "Production" if version in production else "None" for version in (1, 2, 3)}

    assert seen(champion, Shown(aliases, stages, dict.fromkeys(stages, 1))) == hand


def test_of_several_versions_in_production_the_one_touched_last_is_meant() -> None:
    stages = dict.fromkeys((1, 2, 3), "Production")

    assert seen(1, Shown({"champion": 1}, stages, {1: 9, 2: 8, 3: 7})) == Hand("stage", 2)


def test_in_step_nothing_is_settled_and_nothing_is_written(world: World) -> None:
    before = (entries(world), dict(world.client.aliases))

    assert differing(world) == []
    assert reconcile(world.registry, NAME) == []
    assert (entries(world), dict(world.client.aliases)) == before


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize(("version", "kind"), [(1, "rollback"), (3, "promote")])
def test_a_stage_set_by_hand_takes_the_alias_with_it(world: World, version: int, kind: str, archive: bool) -> None:
    by_hand(world, version, archive=archive)

    assert differing(world) != []
    (note,) = reconcile(world.registry, NAME)

    assert "honoured and recorded" in note
    assert state(world) == (version, None if kind == "rollback" else 2, [version], version)
    last = read_log(world.registry.ledger, NAME).done[-1]
    assert (last.kind, last.version, last.previous, last.outside) == (kind, version, 2, True)
    assert (last.who, last.why) == (OUTSIDE, "stage moved in MLflow")
    assert (differing(world), reconcile(world.registry, NAME)) == ([], [])
    world.registry.ledger.check(promotions.stream(NAME))


@pytest.mark.parametrize("half", ["alias", "stage"])
def test_an_unverified_version_set_by_hand_is_put_back_and_the_record_says_why(world: World, half: str) -> None:
    if half == "alias":
        world.client.aliases["champion"] = 9
    else:
        by_hand(world, 9, archive=True)

    (note,) = reconcile(world.registry, NAME)

    assert "no record of having passed the gate; put back to 2" in note
    assert state(world) == (2, 1, [2], 2)
    last = changes(world.registry.ledger, NAME)[-1]
    assert (last.kind, last.before, last.after, last.who, last.outside) == ("put back", 9, 2, OUTSIDE, True)
    assert "put back, by hand" in world.client.versions[9].description
    assert reconcile(world.registry, NAME) == []


@pytest.mark.parametrize("half", ["alias", "stage"])
def test_an_unverified_version_serves_where_the_recipe_allows_it(world: World, half: str) -> None:
    assert allowance.allow(world.registry.ledger, NAME, True, "ann")
    if half == "alias":
        world.client.aliases["champion"] = 9
    else:
        by_hand(world, 9)

    (note,) = reconcile(world.registry, NAME)

    assert "honoured" in note
    assert state(world) == (9, 2, [9], 9)
    assert not any("must not serve" in line for line in examine(world.registry, NAME))
    assert unsaid(NAME, entries(world), []) == []


def test_what_is_broken_is_put_back_even_where_the_unverified_is_allowed(world: World) -> None:
    allowance.allow(world.registry.ledger, NAME, True, "ann")
    world.broken[9] = "version 9 is not signed"
    by_hand(world, 9)

    reconcile(world.registry, NAME)

    assert state(world) == (2, 1, [2], 2)


def test_what_is_allowed_is_written_when_it_changes_and_a_command_is_not_freed_by_it(world: World) -> None:
    ledger = world.registry.ledger
    said = [allowance.allow(ledger, NAME, allowed, "ann") for allowed in (False, True, True, False)]

    assert said == [False, True, False, True]
    assert [one.entry["allow_unverified"] for one in ledger.read(allowance.stream(NAME))] == [True, False]
    allowance.allow(ledger, NAME, True, "ann")
    with pytest.raises(Exception, match="no record of having passed the gate"):
        promote(world.registry, NAME, 9, who="ann", why="by command")


def test_a_half_that_was_taken_away_is_put_back_with_a_record(world: World) -> None:
    for undo in (
        lambda: world.client.transition_model_version_stage(NAME, "2", "Archived"),
        lambda: world.client.aliases.pop("champion"),
        lambda: world.client.aliases.pop("previous"),
    ):
        undo()
        head = len(entries(world))
        (note,) = reconcile(world.registry, NAME)
        assert "put back" in note
        assert state(world) == (2, 1, [2], 2)
        assert [one.entry["act"] for one in entries(world)[head:]] == ["restored"]
        assert entries(world)[-1].entry["who"] == OUTSIDE
    assert unsaid(NAME, entries(world), []) == []  # nobody has to be called


def test_a_champion_that_was_deleted_is_recorded_once_and_a_stage_set_by_hand_helps(world: World) -> None:
    world.client.delete_model_version(NAME, "2")
    for _ in range(2):
        (note,) = reconcile(world.registry, NAME)
        assert "nothing is champion" in note
    assert [one.entry["act"] for one in entries(world)].count("lost") == 1
    (alert,) = unsaid(NAME, entries(world), [])
    assert "nothing is champion" in alert.subject

    by_hand(world, 3)
    reconcile(world.registry, NAME)

    assert state(world)[0] == 3
    assert reconcile(world.registry, NAME) == []


class Cut(Exception):
    pass


@pytest.mark.parametrize("half", ["alias", "stage"])
def test_cut_short_at_any_point_a_hand_is_honoured_once_and_is_not_taken_for_another(
    world: World, monkeypatch: pytest.MonkeyPatch, half: str
) -> None:
    reached: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(failpoint, "reach", reached.append)
        by_hand(world, 3)
        reconcile(world.registry, NAME)
    assert "promote.outside:before" in reached
    for point in dict.fromkeys(reached):
        promote(world.registry, NAME, 2, who="ann", why="again")
        if half == "alias":
            world.client.aliases["champion"] = 3
        else:
            by_hand(world, 3)
        done = len(read_log(world.registry.ledger, NAME).done)

        def cut(name: str, point: str = point) -> None:
            if name == point:
                raise Cut

        with monkeypatch.context() as patch:
            patch.setattr(failpoint, "reach", cut)
            with contextlib.suppress(Cut):
                reconcile(world.registry, NAME)
        reconcile(world.registry, NAME)
        assert state(world) == (3, 2, [3], 3), point
        assert len(read_log(world.registry.ledger, NAME).done) == done + 1, point
        assert reconcile(world.registry, NAME) == []


def test_a_rollback_goes_below_what_a_hand_set(world: World) -> None:
    by_hand(world, 3)
    done = rollback(world.registry, NAME, who="ann", why="errors")

    assert (done.version, done.previous) == (2, 3)
    assert state(world) == (2, 1, [2], 2)


PENDING = Promotion(NAME, "promote", 2, 1, "ann", "why", None, 5, "2026-01-01T00:00:00+00:00")
MOVE = Staging(3, "None", "Staging", "ann", "why", 6, "2026-01-01T00:00:00+00:00")


@pytest.mark.parametrize(
    ("log", "staging", "aliases", "said"),
    [
        (Log(serving=(1, 2)), None, {"champion": 2, "previous": 1}, ""),
        (Log(serving=(1, 2), pending=PENDING), None, {"champion": 2, "previous": 1}, "the promote to version 2"),
        (Log(serving=(1, 2)), MOVE, {"champion": 2, "previous": 1}, "the move of version 3 to Staging"),
        (Log(serving=(1, 2)), None, {"champion": 2}, "alias previous at None, the ledger says 1"),
        (Log(serving=(7, 2)), None, {"champion": 2}, ""),  # the way back was deleted: there is none
        (Log(serving=(1, 2)), None, {"champion": 2, "previous": 1, "challenger": 3}, "alias challenger at 3"),
        (Log(serving=(1, 2)), None, {"champion": 3, "previous": 1}, "alias of champion at 3, the ledger says 2"),
    ],
)
def test_every_difference_has_words_and_agreement_has_none(
    log: Log, staging: Staging | None, aliases: dict[str, int], said: str
) -> None:
    shown = Shown(aliases, {**LATER, 2: "Production"})

    found = differences(log, Challenges(), staging, shown)

    assert [said in one for one in found] == ([True] if said else [])


def test_an_intent_is_left_alone_while_somebody_may_be_carrying_it_out() -> None:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    log = Log(pending=PENDING)
    young, old = then + hands.PATIENCE - timedelta(seconds=1), then + hands.PATIENCE

    assert is_under_way(log, Challenges(), None, young)
    assert is_under_way(Log(), Challenges(), MOVE, young)
    assert not is_under_way(log, Challenges(), None, old)
    assert not is_under_way(Log(), Challenges(), None, young)


def refused(seq: int, minute: int, version: int = 9, why: str = "no gate", **more: Any) -> Entry:
    entry = {"act": "restored", "refused": version, "version": 2, "why": why, "who": OUTSIDE, **more}
    return Entry(seq, (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)).isoformat(), entry, "")


def test_of_one_cause_there_is_one_alert_until_it_has_been_quiet_for_an_hour() -> None:
    storm = [refused(seq, minute) for seq, minute in enumerate((0, 30, 80, 130), start=1)]

    assert [one.episode for one in unsaid(NAME, storm, [])] == ["hand-digits-1"]
    assert len(unsaid(NAME, [*storm, refused(5, 191)], [])) == 2
    assert len(unsaid(NAME, [*storm, refused(5, 131, version=8)], [])) == 2
    given = Entry(1, "2026-01-01T00:00:01+00:00", {"episode": "hand-digits-1"}, "")
    assert unsaid(NAME, storm, [given]) == []
    (alert,) = unsaid(NAME, storm[:1], [])
    assert alert.subject == "version 9 was put in Production by hand in MLflow and is not served; version 2 serves"
    assert "why: no gate" in alert.body


def test_entries_of_before_there_were_alerts_call_nobody() -> None:
    old = refused(1, 0)
    del old.entry["who"]

    assert unsaid(NAME, [old], []) == []


def test_what_mlflow_shows_is_read_whole(world: World) -> None:
    shown = as_shown(world.client, NAME)  # type: ignore[arg-type]

    assert shown.aliases == {"champion": 2, "previous": 1}
    assert shown.stages == {1: "Archived", 2: "Production", 3: "None", 9: "None"}
    assert shown.touched[1] > shown.touched[2] > shown.touched[9]
    assert read_challenges(world.registry.ledger, NAME) == Challenges()
