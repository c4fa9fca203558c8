"""What verdicts start: each cause its reaction, k of n windows, one an episode, held back by what holds it back."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from policy_world import FACTS, NOW, ONE, THREE, decided, stream, verdict

from trimtab.monitoring.columns import CONFIDENCE
from trimtab.monitoring.drift import ColumnResult
from trimtab.monitoring.policy import DAY_S, Facts, Reaction, decide, decisions
from trimtab.monitoring.verdict import VerdictKind
from trimtab.recipe.policy import Policy


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        ("healthy", "none"),
        ("not_enough_rows", "none"),
        ("drift", "alert"),
        ("damage", "alert"),
        ("damage_estimated", "alert"),
        ("data_quality", "alert"),
        ("drift+damage", "retrain"),
    ],
)
def test_each_kind_has_its_reaction_where_one_window_is_enough(kind: VerdictKind, action: str) -> None:
    assert decided(stream(kind)).action == action


def test_damage_that_nothing_explains_asks_for_two_windows_even_where_one_is_enough_otherwise() -> None:
    for policy in (Policy(k=1, n=3), ONE):
        assert decided(stream("damage"), policy=policy).action == "alert"
        assert decided(stream("damage", "damage"), policy=policy).action == "retrain"
        assert decided(stream("drift+damage", "damage"), policy=policy).action == "retrain"


@pytest.mark.parametrize("cause", ["latency", "memory", "size"])
def test_what_costs_too_much_is_compressed_anew(cause: str) -> None:
    costly = [verdict("service", place, breaches=(cause,)) for place in range(2)]  # type: ignore[arg-type]

    assert decided(costly[:1], policy=THREE).action == "alert"
    decision = decided(costly, policy=THREE)
    assert (decision.action, decision.cause) == ("recompress", cause)


@pytest.mark.parametrize("cause", ["clients", "leak", "disk", "errors"])
def test_what_no_release_can_mend_is_only_said(cause: str) -> None:
    shown = [verdict("service", place, breaches=(cause,)) for place in range(3)]  # type: ignore[arg-type]

    assert {decided(shown[: count + 1]).action for count in range(3)} == {"alert"}


def test_k_of_the_last_n_windows_must_show_it() -> None:
    def action(*kinds: VerdictKind) -> str:
        return decided(stream(*kinds), policy=THREE).action

    assert action("drift+damage") == "alert"
    assert action("drift+damage", "healthy", "drift+damage") == "retrain"
    assert action("drift+damage", "healthy", "healthy", "drift+damage") == "alert"
    assert action("drift+damage", "drift+damage", "healthy") == "none"


def test_a_window_that_cannot_say_counts_neither_way() -> None:
    verdicts = stream("drift+damage", "not_enough_rows", "not_enough_rows", "data_quality", "drift+damage")

    assert decided(verdicts, policy=THREE).action == "retrain"


def test_windows_of_another_version_do_not_count() -> None:
    verdicts = [*stream("drift+damage", version="2"), *stream("drift+damage", first=1)]

    assert decided(verdicts, policy=THREE).action == "alert"


def test_a_second_verdict_on_the_same_rows_replaces_the_first() -> None:
    """Late labels: the window counts once, by what they say."""
    twice = [verdict("drift+damage"), replace(verdict("drift+damage"), duplicates=1)]
    cleared = [*stream("drift+damage", "drift+damage"), verdict("healthy"), verdict("drift+damage", 2)]

    assert decided(twice, policy=THREE).action == "alert"
    assert decided(cleared, policy=THREE).action == "retrain"  # two of three, the first turned out healthy
    assert decided([*cleared[:1], cleared[2]], policy=THREE).action == "none"


def test_damage_that_was_estimated_and_is_now_measured_needs_no_second_window() -> None:
    measured = replace(verdict("damage"), revision=1, replaces="before", replaced_kind="damage_estimated")

    assert decided([measured]).action == "retrain"
    assert decided([measured], policy=THREE).action == "retrain"
    assert decided([replace(measured, kind="healthy", performance=verdict("healthy").performance)]).action == "none"


def test_damage_by_estimate_is_only_said() -> None:
    windows = stream("damage_estimated", "damage_estimated", "damage_estimated")

    decision = decided(windows)

    assert (decision.action, decision.cause) == ("alert", "estimated")
    assert not any(one.acts for one in decisions(windows, FACTS, ONE, "act", NOW))


def test_broken_data_never_retrain_whatever_came_before() -> None:
    verdicts = stream("drift+damage", "drift+damage", "data_quality")

    assert decided(verdicts, policy=THREE).action == "alert"
    assert all(not one.acts for one in decisions(verdicts, FACTS, ONE, "act", NOW))
    slow = verdict("data_quality", breaches=("latency",))
    assert [one.action for one in decisions([slow], FACTS, ONE, "act", NOW)] == ["alert", "alert", "none"]


def test_a_verdict_with_a_reaction_gets_no_second_one() -> None:
    newest = verdict("drift+damage")
    facts = replace(FACTS, reactions=(Reaction(newest.digest, "retrain", 0.0, finished_at=1.0),))

    decision = decided([newest], facts)

    assert (decision.action, decision.verdict_digest) == ("none", newest.digest)


def test_an_episode_starts_one_reaction_and_the_next_one_needs_windows_of_its_own() -> None:
    """The windows that came in while the reaction ran are of the same episode, even when it changed nothing."""
    first, during, after = stream("drift+damage", "drift+damage", "drift+damage")
    done = Reaction(first.digest, "retrain", 0.0, "damage", "e", finished_at=10.0, version=None, end=during.hi)
    facts = replace(FACTS, reactions=(done,))

    assert decided([first, during], facts).action == "alert"
    assert decided([first, during, after], facts).action == "retrain"


def test_while_a_reaction_runs_none_is_started() -> None:
    first, second = stream("drift+damage", "drift+damage")
    running = replace(FACTS, reactions=(Reaction(first.digest, "retrain", 0.0, "damage", "e"),))

    decision = decisions([first, second], running, ONE, "act", NOW)[-1]

    assert decision.action == "none"
    assert "not finished" in decision.reason


def test_of_one_cause_there_is_one_alert_until_n_windows_are_clear() -> None:
    facts, policy = FACTS, THREE
    alerts = []
    verdicts = []
    for place, kind in enumerate(["drift", "drift", "healthy", "drift", "healthy", "healthy", "healthy", "drift"]):
        verdicts.append(verdict(kind, place))  # type: ignore[arg-type]
        decision = decide(verdicts, facts, policy, "act", NOW)
        if decision.action == "alert":
            alerts.append(place)
            facts = replace(facts, said=facts.said | {decision.episode})

    assert alerts == [0, 7]


def test_a_window_with_two_causes_has_an_alert_for_each_beside_its_reaction() -> None:
    both = verdict("drift+damage", breaches=("disk", "clients"))

    found = decisions([both], FACTS, ONE, "act", NOW)

    said = [(one.action, one.cause) for one in found]
    assert said == [("retrain", "damage"), ("alert", "clients"), ("alert", "disk")]


def test_a_verdict_about_a_version_that_no_longer_serves_starts_nothing() -> None:
    assert decided(stream("drift+damage"), Facts(champion_version="4")).action == "none"


def test_a_retrain_waits_for_the_cool_down_and_its_alert_does_not() -> None:
    verdicts = stream("drift+damage")
    reaction = Reaction("another", "retrain", NOW - 299, finished_at=NOW - 298)
    for facts in (replace(FACTS, reactions=(reaction,)), replace(FACTS, promoted_at=NOW - 299)):
        first = decided(verdicts, facts)
        assert first.action == "alert"
        said = replace(facts, said=frozenset({first.episode}))
        assert "cool-down" in decided(verdicts, said).reason
        assert decided(verdicts, said, now=NOW + 1).action == "retrain"


def test_no_more_reactions_a_day_than_the_recipe_allows_and_that_is_said_once() -> None:
    policy = Policy(k=1, n=1, cooldown_s=0, max_reactions_per_day=2)
    ages = {"a": DAY_S, "b": 90.0}
    past = tuple(Reaction(name, "retrain", NOW - age, finished_at=1.0, version="2") for name, age in ages.items())
    verdicts = stream("drift+damage")

    assert decided(verdicts, replace(FACTS, reactions=past), policy).action == "retrain"
    full = replace(FACTS, reactions=(*past, Reaction("c", "retrain", NOW - 80, finished_at=1.0, version="2")))
    held = decided(verdicts, full, policy)
    assert (held.action, held.cause) == ("alert", "budget")
    silent = replace(full, said=frozenset(one.episode for one in decisions(verdicts, full, policy, "act", NOW)))
    assert decided(verdicts, silent, policy).action == "none"


def test_the_breaker_opens_after_reactions_that_did_not_help_and_says_so_once() -> None:
    policy = Policy(k=1, n=1, cooldown_s=0)
    past = tuple(Reaction(name, "retrain", 1.0, "damage", finished_at=2.0) for name in "abc")
    verdicts = stream("drift+damage")

    assert decided(verdicts, replace(FACTS, reactions=past[:2]), policy).action == "retrain"
    opened = replace(FACTS, reactions=past)
    held = decided(verdicts, opened, policy)
    assert (held.action, held.cause) == ("alert", "breaker")
    said = replace(opened, said=frozenset(one.episode for one in decisions(verdicts, opened, policy, "act", NOW)))
    assert decided(verdicts, said, policy).action == "none"
    assert decided(verdicts, replace(said, closed_at=3.0), policy).action == "retrain"


@pytest.mark.parametrize("kind", get_args(VerdictKind))
def test_observing_never_acts(kind: VerdictKind) -> None:
    assert not any(one.acts for one in decisions(stream(kind), FACTS, ONE, "observe", NOW))


def test_observing_says_once_what_would_have_been_done() -> None:
    verdicts = stream("drift+damage")
    first = decided(verdicts, mode="observe")

    assert first.action == "alert"
    assert "retrain" in first.reason
    said = replace(FACTS, said=frozenset({first.episode}))
    more = [*verdicts, verdict("drift+damage", 1)]
    assert [one.action for one in decisions(more, said, replace_n(ONE, 3), "observe", NOW)] == ["none"]


def replace_n(policy: Policy, n: int) -> Policy:
    return policy.model_copy(update={"n": n})


def test_proposing_waits_for_a_person_and_asks_once() -> None:
    verdicts = stream("drift+damage")
    first = decided(verdicts, mode="propose")

    assert (first.action, first.needs_approval) == ("retrain", True)
    asked = replace(FACTS, proposed=frozenset({first.episode}))
    assert [one.action for one in decisions(verdicts, asked, ONE, "propose", NOW)] == ["none"]
    agreed = decided(verdicts, replace(asked, approved=frozenset({verdicts[-1].digest})), mode="propose")
    assert (agreed.action, agreed.needs_approval) == ("retrain", False)


def test_a_proposal_that_expired_is_over_and_a_later_window_of_the_episode_asks_anew() -> None:
    verdicts = stream("drift+damage")
    first = decided(verdicts, mode="propose")
    lapsed = replace(FACTS, expired=frozenset({verdicts[-1].digest}))

    over = decided(verdicts, lapsed, mode="propose")
    assert over.action == "none"
    assert "not approved in time" in over.reason

    again = decided([*verdicts, verdict("drift+damage", 1)], lapsed, mode="propose")
    assert (again.action, again.needs_approval, again.episode) == ("retrain", True, first.episode)


FRESH = Facts(champion_version="3", previous_version="2", promoted_at=1000.0)


@pytest.mark.parametrize("bad", [verdict("service", breaches=("errors",)), verdict("damage")])
def test_a_bad_promotion_is_rolled_back_on_one_window_without_waiting(bad: object) -> None:
    decision = decided([bad], FRESH, Policy(k=3, n=3, cooldown_s=1e6))  # type: ignore[list-item]

    assert decision.action == "rollback"
    assert "after its promotion" in decision.reason


def test_damage_that_the_inputs_explain_is_no_reason_to_roll_back() -> None:
    drifted = verdict("drift+damage")
    answers = ColumnResult(CONFIDENCE, "numeric", "ks", 1e-9, 1e-3, True, 200, "", ())

    assert decided([drifted], replace(FRESH, promoted_at=900.0)).action == "retrain"
    assert decided([replace(drifted, columns=(answers,))], FRESH).action == "rollback"


@pytest.mark.parametrize(
    "facts",
    [
        replace(FRESH, previous_version=None),
        replace(FRESH, rolled_back=True),
        replace(FRESH, promoted_at=None),
    ],
)
def test_there_must_be_a_promotion_to_go_back_from(facts: Facts) -> None:
    assert decided([verdict("service", breaches=("errors",))], facts).action == "alert"


def test_after_a_healthy_window_or_n_windows_it_is_no_longer_the_promotion() -> None:
    errors = verdict("service", 3, breaches=("errors",))

    assert decided([*stream("drift", "drift"), replace(errors, lo=400, hi=600)], FRESH, THREE).action == "rollback"
    assert decided([*stream("healthy", "drift"), replace(errors, lo=400, hi=600)], FRESH, THREE).action == "alert"
    assert decided([*stream("drift", "drift", "drift"), errors], FRESH, THREE).action == "alert"


def test_windows_from_before_the_promotion_say_nothing_of_it() -> None:
    """The version served before, was rolled back, and is promoted again."""
    earlier = stream("healthy", "healthy")
    again = replace(FRESH, promoted_at=1002.0)

    assert decided([*earlier, verdict("service", 2, breaches=("errors",))], again, THREE).action == "rollback"


def test_there_is_no_way_back_to_a_version_that_failed_in_the_same_way() -> None:
    before = [verdict("damage", 0, version="2")]

    assert decided([*before, verdict("damage", 1)], FRESH).action == "alert"
    assert decided([*before, verdict("service", 1, breaches=("errors",))], FRESH).action == "rollback"


def test_a_rollback_is_proposed_or_only_said_where_the_recipe_says_so() -> None:
    bad = [verdict("damage")]

    assert decided(bad, FRESH, mode="propose").needs_approval
    assert decided(bad, FRESH, mode="observe").action == "alert"


def test_without_a_verdict_there_is_nothing_to_do() -> None:
    assert decided([]).action == "none"
