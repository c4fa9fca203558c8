"""Verdicts made by hand, for the policy and what it is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trimtab.candidate import Interval
from trimtab.monitoring import Facts, Verdict
from trimtab.monitoring.drift import ColumnResult
from trimtab.monitoring.estimate import Estimate
from trimtab.monitoring.performance import Performance
from trimtab.monitoring.policy import Decision, Mode, decisions
from trimtab.monitoring.service import Breach, BreachKind, ServiceFacts
from trimtab.monitoring.verdict import VerdictKind
from trimtab.recipe.policy import Policy

NOW = 10_000.0
ROWS = 200
FACTS = Facts(champion_version="3")
ONE = Policy(k=1, n=1, cooldown_s=300)
THREE = Policy(k=2, n=3, cooldown_s=300)
ANSWERS = {"damage": "damage", "drift+damage": "damage", "damage_estimated": "too_few_labels"}
ESTIMATE = Estimate("damage", "", "accuracy", "all rows", value=Interval(0.5, 0.4, 0.6, ROWS))


def verdict(
    kind: VerdictKind, place: int = 0, version: str = "3", breaches: tuple[BreachKind, ...] = (), **more: Any
) -> Verdict:
    """The verdict on the window at a place (0, 1, …), as long as the others; with drift, an input has drifted."""
    accuracy = Interval(0.9, 0.85, 0.94, ROWS)
    moved = ColumnResult("input.mean", "numeric", "ks", 1e-9, 1e-3, True, ROWS, "median 0.5 → 0.6", ())
    still = replace(moved, drifted=False, p=0.5)
    service = ServiceFacts(
        began_s=1000.0 + place,
        ended_s=1000.5 + place,
        host="here",
        requests=ROWS,
        failed={},
        seen=0,
        refused={},
        latency={},
        resources={},
        breaches=tuple(Breach(one, f"{one} is too much") for one in breaches),
    )
    fields: dict[str, Any] = {
        "kind": kind,
        "lo": ROWS * place,
        "hi": ROWS * (place + 1),
        "version": version,
        "rows": ROWS,
        "columns": (moved if "drift" in kind else still,),
        "performance": Performance(ANSWERS.get(kind, "ok"), accuracy, accuracy, 0.85, ROWS, ROWS, 0),  # type: ignore[arg-type]
        "errors": 0,
        "other_versions": 0,
        "duplicates": 0,
        "unknown_labels": 0,
        "reasons": (),
        "service": service,
        "estimated": ESTIMATE if kind == "damage_estimated" else None,
    }
    return Verdict(**{**fields, **more})


def stream(*kinds: VerdictKind, version: str = "3", first: int = 0) -> list[Verdict]:
    """One verdict after the other."""
    return [verdict(kind, first + place, version) for place, kind in enumerate(kinds)]


def decided(
    verdicts: list[Verdict], facts: Facts = FACTS, policy: Policy = ONE, mode: Mode = "act", now: float = NOW
) -> Decision:
    """The first decision."""
    return decisions(verdicts, facts, policy, mode, now)[0]
