"""Verdicts on one window replace each other when labels come late; the stream they stand in is never changed.

A later verdict on the same rows supersedes the earlier one and names it. What stands is the last one on each window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trimtab.monitoring.verdict import Verdict

QUIET = ("healthy", "not_enough_rows")
RUNNING = 20  # earlier windows whose estimates count in the running error


def standing(verdicts: Iterable[Verdict], version: str | None = None) -> list[Verdict]:
    """One verdict a window, by place in the journal: the last where late labels led to another one.

    Args:
        verdicts: in the order in which they were recorded. version: only windows of this one; None: of all.
    """
    last = {(verdict.lo, verdict.hi): verdict for verdict in verdicts}
    return [last[span] for span in sorted(last) if version in (None, last[span].version)]


def told(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """All verdicts, in the order in which they call for something; the last one is what is to be decided on.

    A verdict that re-opens an older window and finds something there is news, and stands where it was recorded. One
    that calls for nothing, or says what the one before it said, stands beside that one: it must not hide what a later
    window showed.

    Args:
        verdicts: in the order in which they were recorded.
    """
    found: list[Verdict] = []
    for verdict in verdicts:
        places = [place for place, other in enumerate(found) if other.digest == verdict.replaces]
        news = verdict.kind != verdict.replaced_kind and verdict.kind not in QUIET
        found.insert(places[-1] + 1 if places and not news else len(found), verdict)
    return found


def with_successors(digests: Iterable[str], verdicts: Iterable[Verdict]) -> frozenset[str]:
    """These digests and those of the verdicts that replaced them: a reaction to one is a reaction to all."""
    found = set(digests)
    for verdict in verdicts:
        if verdict.replaces in found:
            found.add(verdict.digest)
    return frozenset(found)


def candidates(verdicts: Sequence[Verdict], horizon: int, reacted: frozenset[str]) -> list[Verdict]:
    """Verdicts that late labels may re-open: of the last `horizon` windows, without a reaction, oldest first."""
    recent = standing(verdicts)[-horizon:] if horizon else []
    return [verdict for verdict in recent if verdict.labels is not None and verdict.digest not in reacted]


def grown(before: int, now: int, min_labels: int) -> bool:
    """Whether labels came that can change a verdict: from too few to enough, or twice as many."""
    return before < min_labels <= now or (before >= min_labels and now >= 2 * before)


def estimate_errors(past: Sequence[Verdict], version: str, span: tuple[int, int], metric: str, of: str) -> list[float]:
    """Estimate less measured figure of earlier windows of a version whose labels came, the last RUNNING of them.

    Windows whose inputs had left the release's support do not count: nothing was claimed of them.

    Args:
        past: verdicts that stood. span: of the window in question, which is left out. metric, of: what is estimated.
    """
    errors = []
    for verdict in past:
        estimate, measured = verdict.estimated, verdict.performance
        if verdict.version != version or (verdict.lo, verdict.hi) == span or estimate is None:
            continue
        if measured.answer in ("too_few_labels", "undefined") or measured.accuracy is None:
            continue
        if estimate.value is None or not estimate.supported or (estimate.metric, estimate.of) != (metric, of):
            continue
        errors.append(estimate.value.value - measured.accuracy.value)
    return errors[-RUNNING:]


def replaced_by(past: Sequence[Verdict], span: tuple[int, int]) -> Verdict | None:
    """The verdict that stands on these rows, which a new one will replace."""
    return next((verdict for verdict in past if (verdict.lo, verdict.hi) == span), None)
