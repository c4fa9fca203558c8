"""The challenger: set and cleared with a record, checked like a promotion; promotions that ask for evidence first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow_in_memory import NAME, World

from trimtab.errors import RegistryError, StateError
from trimtab.journal.comparisons import FILE, Comparisons
from trimtab.journal.outcomes import Outcome
from trimtab.ledger import Entry
from trimtab.registry import challenges
from trimtab.registry.challenge import challenge, clear, how_tried
from trimtab.registry.challenges import fold, read_challenges
from trimtab.registry.evidence import Unproven
from trimtab.registry.promote import promote, reconcile, rollback
from trimtab.registry.promotions import read_log

RULE = {"serving": {"promotion": {"min_requests": 3, "min_agreement": 0.9, "max_error_rate": 0.1}}}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Versions 1, 2 and 3 are registered; 1 is the champion."""
    world = World(tmp_path, monkeypatch)
    for version in (1, 2, 3):
        world.release(version)
    promote(world.registry, NAME, 1, who="ann", why="first")
    return world


def tried(world: World) -> tuple[int | None, int | None]:
    """What is tried, by the alias and by the ledger."""
    return world.client.aliases.get("challenger"), read_challenges(world.registry.ledger, NAME).version


def show(world: World, agreeing: int, other: int = 0, champion: str = "1", challenger: str = "2") -> None:
    comparisons = Comparisons(world.registry.comparisons / NAME)  # type: ignore[operator]
    for index in range(agreeing + other):
        comparisons.add(Outcome("shadow", champion, challenger, "r", 1, rows=1, agreed=int(index < agreeing)))
    comparisons.close()


def test_a_version_is_tried_and_the_ledger_says_who_and_why(world: World) -> None:
    done = challenge(world.registry, NAME, 2, who="bob", why="a tenth until Friday")
    assert (done.version, done.previous, done.who, done.why) == (2, None, "bob", "a tenth until Friday")
    assert tried(world) == (2, 2)
    assert challenge(world.registry, NAME, 2, who="eve", why="again") == done
    assert challenge(world.registry, NAME, 3, who="bob", why="better").previous == 2
    assert tried(world) == (3, 3)
    assert world.client.aliases["champion"] == 1
    world.registry.ledger.check(challenges.stream(NAME))


def test_a_trial_is_ended(world: World) -> None:
    challenge(world.registry, NAME, 2, who="bob", why="try")
    done = clear(world.registry, NAME, who="ann", why="enough")
    assert (done.version, done.previous, done.who) == (None, 2, "ann")
    assert tried(world) == (None, None)
    with pytest.raises(RegistryError, match="has no challenger"):
        clear(world.registry, NAME, who="ann", why="once more")


def test_what_must_not_serve_is_not_tried_and_nothing_is_written(world: World) -> None:
    world.broken[3] = "logged model m-3 lacks ['loader.py']"
    for version, told in ((1, "is the champion"), (3, "lacks"), (9, "no record of having passed the gate")):
        with pytest.raises(RegistryError, match=told):
            challenge(world.registry, NAME, version, who="bob", why="try")
    assert tried(world) == (None, None)
    assert world.registry.ledger.read(challenges.stream(NAME)) == []


def test_without_a_champion_there_is_nothing_to_challenge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.release(1)
    with pytest.raises(RegistryError, match="no champion"):
        challenge(world.registry, NAME, 1, who="bob", why="try")


def test_the_trial_ends_when_the_challenger_is_promoted(world: World) -> None:
    challenge(world.registry, NAME, 2, who="bob", why="try")
    promote(world.registry, NAME, 2, who="ann", why="good")
    assert tried(world) == (None, None)
    last = read_challenges(world.registry.ledger, NAME).last
    assert last is not None
    assert last.why == "version 2 is the champion"
    challenge(world.registry, NAME, 3, who="bob", why="next")
    rollback(world.registry, NAME, who="ann", why="bad")
    assert tried(world) == (3, 3)


@pytest.mark.parametrize("alias_first", [False, True])
def test_a_change_that_was_cut_short_is_finished_by_the_next_call(world: World, alias_first: bool) -> None:
    entry = {"act": "challenging", "version": 2, "from": None, "who": "bob", "why": "try"}
    world.registry.ledger.record(challenges.stream(NAME), entry, 0)
    if alias_first:
        world.client.aliases["challenger"] = 2
    assert "cut short" in reconcile(world.registry, NAME)[0]
    assert tried(world) == (2, 2)
    assert reconcile(world.registry, NAME) == []


def test_a_change_to_a_version_that_was_deleted_meanwhile_ends_in_none(world: World) -> None:
    entry = {"act": "challenging", "version": 2, "from": None, "who": "bob", "why": "try"}
    world.registry.ledger.record(challenges.stream(NAME), entry, 0)
    del world.client.versions[2]
    reconcile(world.registry, NAME)
    assert tried(world) == (None, None)
    assert reconcile(world.registry, NAME) == []


def test_a_hand_in_mlflow_is_honoured_if_the_version_may_serve(world: World) -> None:
    world.client.aliases["challenger"] = 2
    assert "version 2 was made challenger by hand" in reconcile(world.registry, NAME)[0]
    assert tried(world) == (2, 2)
    del world.client.aliases["challenger"]
    assert "taken away by hand" in reconcile(world.registry, NAME)[0]
    assert tried(world) == (None, None)
    world.broken[3] = "it was changed"
    world.client.aliases["challenger"] = 3
    assert "it was changed; alias removed" in reconcile(world.registry, NAME)[0]
    assert tried(world) == (None, None)
    assert reconcile(world.registry, NAME) == []


def test_how_a_version_is_tried_is_told_in_words(world: World) -> None:
    assert "nothing reaches it" in how_tried(world.registry, NAME, 2)
    world.facts[2] = {"serving": {"canary": {"percent": 5, "header": True}, "shadow": {"percent": 20}}}
    assert how_tried(world.registry, NAME, 2) == "answers 5 % of requests, answers those that ask for it, " + (
        "runs copies of 20 %"
    )


def test_by_default_a_promotion_asks_for_nothing_more_than_the_gate(world: World) -> None:
    assert promote(world.registry, NAME, 2, who="ann", why="good", evidence={"a": 1}).evidence == {"a": 1}


def test_a_promotion_without_the_evidence_is_refused_in_figures_and_changes_nothing(world: World) -> None:
    world.facts[2] = RULE
    before = read_log(world.registry.ledger, NAME)
    with pytest.raises(Unproven, match=r"against version 1 .* 0 shadow requests, 3 are needed; no row was compared"):
        promote(world.registry, NAME, 2, who="ann", why="good")
    show(world, agreeing=3, other=1)
    with pytest.raises(Unproven, match=r"decided 75\.0% of 4 rows as the champion did, 90\.0% are needed"):
        promote(world.registry, NAME, 2, who="ann", why="good")
    assert read_log(world.registry.ledger, NAME) == before
    assert world.client.aliases["champion"] == 1


def test_a_promotion_with_the_evidence_has_it_in_its_record(world: World) -> None:
    world.facts[2] = RULE
    show(world, agreeing=4)
    evidence = promote(world.registry, NAME, 2, who="ann", why="good", evidence="report").evidence
    assert (evidence["given"], evidence["missing"]) == ("report", [])
    assert (evidence["comparison"]["shadowed"], evidence["rule"]["min_requests"]) == (4, 3)


def test_a_trial_against_another_champion_counts_for_nothing(world: World) -> None:
    world.facts[2] = RULE
    show(world, agreeing=9, champion="3")
    show(world, agreeing=9, challenger="3")
    with pytest.raises(Unproven, match="0 shadow requests"):
        promote(world.registry, NAME, 2, who="ann", why="good")


def test_a_forced_promotion_is_made_and_the_record_says_what_was_missing(world: World) -> None:
    world.facts[2] = RULE
    done = promote(world.registry, NAME, 2, who="ann", why="it burns", force=True)
    assert done.version == 2
    assert done.evidence["missing"][0] == "0 shadow requests, 3 are needed"


def test_evidence_that_cannot_be_read_lets_nothing_through_but_by_force(world: World) -> None:
    world.facts[2] = RULE
    show(world, agreeing=4)
    path = world.registry.comparisons / NAME / FILE  # type: ignore[operator]
    path.write_bytes(path.read_bytes().replace(b'"rows":1', b'"rows":9', 1))
    with pytest.raises(StateError, match="damaged"):
        promote(world.registry, NAME, 2, who="ann", why="good")
    assert promote(world.registry, NAME, 2, who="ann", why="it burns", force=True).version == 2


def test_the_first_promotion_and_a_rollback_ask_for_nothing(world: World) -> None:
    for version in (1, 2):
        world.facts[version] = RULE
    promote(world.registry, NAME, 2, who="ann", why="good", force=True)
    assert rollback(world.registry, NAME, who="ann", why="bad").version == 1


def entries(*acts: dict[str, Any]) -> list[Entry]:
    return [Entry(seq, f"2026-01-{seq:02}", act, "") for seq, act in enumerate(acts, start=1)]


def test_an_intent_counts_only_once_it_is_done() -> None:
    intent = {"act": "challenging", "version": 2, "from": None, "who": "w", "why": "y"}
    assert fold(NAME, []).version is None
    begun = fold(NAME, entries(intent))
    assert (begun.version, begun.head) == (None, 1)
    assert begun.pending is not None
    done = fold(NAME, entries(intent, {"act": "challenged", "intent": 1}))
    assert (done.version, done.pending, done.head) == (2, None, 2)
