"""Each watched column of a window against the reference: a score, the threshold at these sizes, and what else is wrong.

The scores are those of `scores`, the thresholds those of `thresholds`. The same functions are registered as Evidently
tests (`engine`), so that its page shows these very numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from trimtab.errors import RegistryError
from trimtab.monitoring.columns import OUTPUT_COLUMNS, is_prediction
from trimtab.monitoring.findings import Finding, find, missing, new_column, no_rule, retyped
from trimtab.monitoring.profile import ColumnProfile, Profile, describe
from trimtab.monitoring.scores import ORDERED
from trimtab.monitoring.summary import MOST, ColumnSummary, numbers_of, summarize
from trimtab.monitoring.thresholds import calibrate, score_of
from trimtab.recipe.drift import ColumnRule, Drift

Array = np.ndarray
# How the family-wise level is divided: a column's distribution, its unusable values, its gradual drift over windows.
OF_DISTRIBUTION, OF_UNUSABLE, OF_GRADUAL = 0.5, 0.25, 0.25
UNTESTED = ("empty", "datetime")
MOST_NEW = 50
LOOKS_LIKE = 0.05  # p-value from which on a new column is taken for a missing one under another name
DEFAULT = Drift()
NO_RULE = ColumnRule()
NOTHING_FAILED: Mapping[str, str] = {}


@dataclass(frozen=True)
class ColumnResult:
    """What is said of one column.

    Attributes:
        test: the method, named as in `scores`; "" where no test could be made.
        p: probability of such a score or a higher one on data like the reference; None without a test.
        threshold: the level p is held against: the column's part of the family-wise alpha.
        drifted: the score is at its limit or above. Where the limit is calibrated that is p ≤ threshold.
        n: finite values in the window.
        change: what changed, in words.
        findings: what else is wrong with it.
        score, limit: the score and where drift begins; None without a test, and in verdicts from before there were any.
    """

    name: str
    kind: str
    test: str
    p: float | None
    threshold: float
    drifted: bool
    n: int
    change: str
    findings: tuple[Finding, ...]
    score: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Pair:
    """A tested column: its profile, and the summaries of reference and window; both have finite values."""

    column: ColumnProfile
    reference: ColumnSummary
    window: ColumnSummary


@dataclass(frozen=True)
class Comparison:
    """Results of all columns, and by name what the tested ones were tested on."""

    results: tuple[ColumnResult, ...]
    pairs: Mapping[str, Pair]

    def sound(self) -> dict[str, Pair]:
        """The columns in which this window shows nothing by itself: those that gradual drift is gathered from. One that
        drifted was reported; gathered, it would be reported again in every window until it has faded."""
        bad = {result.name for result in self.results if result.drifted or any(f.alert for f in result.findings)}
        return {name: pair for name, pair in self.pairs.items() if name not in bad}


def compare(
    window: Mapping[str, Array],
    reference: Mapping[str, Array],
    profile: Profile,
    alpha: float,
    rules: Drift = DEFAULT,
    *,
    inputs_journalled: bool = True,
    redacted: Collection[str] = (),
    failed: Mapping[str, str] = NOTHING_FAILED,
    most: int = MOST,
) -> Comparison:
    """Judge every column of the profile; a column that cannot be tested is a finding, and the others still are.

    On data like the reference at least one column is called drifted in at most a share `alpha` / 2 of windows, at any
    number of rows (Bonferroni over the columns), or has a data error in at most `alpha` / 4.

    Args:
        window: name → (n,), n ≥ 1, from `columns`; each is asked for once, so that they can be read one at a time.
        reference: name → (m,), as stored with the release.
        profile: of the same release.
        alpha: family-wise level.
        rules: the recipe's `monitoring.drift`.
        inputs_journalled: False: input columns are absent on purpose.
        redacted: names of inputs whose columns are absent on purpose, where those of others are there.
        failed: own descriptors that gave nothing → why.
        most: values a column is summed up in.

    Raises:
        RegistryError: the reference columns are not those of the profile.
    """
    absent = [column.name for column in profile.columns if column.name not in reference]
    if absent:
        raise RegistryError(
            f"the reference has no column {absent[0]!r}", where="reference columns", fix="register the release again"
        )
    results, pairs = [], {}
    for column in profile.columns:
        if column.name in window:
            result, pair = _judge(column, window[column.name], reference[column.name], profile, alpha, rules, most)
            if pair is not None:
                pairs[column.name] = pair
        else:
            answers = column.name in OUTPUT_COLUMNS or is_prediction(column.name)
            journalled = answers or (inputs_journalled and not _of_one(column.name, redacted))
            finding = missing(journalled, _renamed(column, window, reference, profile), failed.get(column.name, ""))
            result = _untested(column.name, column.kind, _level(profile, alpha), (finding,))
        results.append(result)
    known = {column.name for column in profile.columns}
    new = [name for name in window if name not in known]
    results += [_untested(name, "new", _level(profile, alpha), (new_column(),)) for name in new[:MOST_NEW]]
    strange = [name for name in rules.columns if name not in known and name not in new]
    for name in strange:
        finding = no_rule(name, "the release has no such column")
        results.append(_untested(name, "none", _level(profile, alpha), (finding,)))
    return Comparison(tuple(results), pairs)


def _of_one(column: str, inputs: Collection[str]) -> bool:
    """Whether a column is of one of these inputs."""
    return any(column.startswith((f"{name}[", f"{name}.")) for name in inputs)


def pairs_of(window: Mapping[str, Array], reference: Mapping[str, Array], profile: Profile) -> dict[str, Pair]:
    """The summaries of what can be tested, as in `compare`."""
    found = {}
    for column in profile.columns:
        if column.name in window and column.name in reference and column.kind not in UNTESTED:
            now, then = summarize(column, window[column.name]), summarize(column, reference[column.name])
            if now is not None and then is not None and now.finite and then.finite:
                found[column.name] = Pair(column, then, now)
    return found


def gradual_level(profile: Profile, alpha: float) -> float:
    """Level of one column's test over windows."""
    return alpha * OF_GRADUAL / max(1, len(profile.columns))


def method_for(column: ColumnProfile, rules: Drift) -> tuple[str, tuple[Finding, ...]]:
    """The method of a column, and what of the recipe's rule for it cannot be followed."""
    rule, numeric = rules.columns.get(column.name, NO_RULE), column.kind == "numeric"
    method = rule.method or (rules.numeric if numeric else rules.categorical)
    found = []
    if rule.kind not in (None, column.kind) and column.kind not in ("constant", "boolean", "empty"):
        found.append(no_rule(column.name, f"it is {column.kind} in this release, kind: {rule.kind} counts in the next"))
    if not numeric and method in ORDERED:
        found.append(no_rule(column.name, f"{method} is for numbers, {rules.categorical} is taken"))
        method = rules.categorical
    return method, tuple(found)


def _judge(
    column: ColumnProfile, values: Array, reference: Array, profile: Profile, alpha: float, rules: Drift, most: int
) -> tuple[ColumnResult, Pair | None]:
    level = _level(profile, alpha)
    now = summarize(column, values, most)
    if now is None:
        return _untested(column.name, column.kind, level, (retyped(column, str(np.asarray(values).dtype)),)), None
    findings = find(column, now, alpha * OF_UNUSABLE / len(profile.columns))
    then = summarize(column, reference, most)
    if column.kind in UNTESTED or then is None or not then.finite or not now.finite:
        return _untested(column.name, column.kind, level, findings, now.finite), None
    method, unfollowed = method_for(column, rules)
    pair, score = Pair(column, then, now), score_of(method, then, now)
    found = calibrate(method, then, now, score, level)
    limit = rules.columns.get(column.name, NO_RULE).threshold or found.limit
    result = ColumnResult(
        name=column.name,
        kind=column.kind,
        test=method,
        p=found.p,
        threshold=level,
        drifted=score >= limit,
        n=now.finite,
        change=_change(pair),
        findings=(*findings, *unfollowed),
        score=score,
        limit=limit,
    )
    return result, pair


def _level(profile: Profile, alpha: float) -> float:
    return alpha * OF_DISTRIBUTION / max(1, len(profile.columns))


def _untested(name: str, kind: str, level: float, findings: tuple[Finding, ...], n: int = 0) -> ColumnResult:
    return ColumnResult(name, kind, "", None, level, False, n, "", findings)


def _renamed(
    column: ColumnProfile, window: Mapping[str, Array], reference: Mapping[str, Array], profile: Profile
) -> str:
    """The new column of the same kind whose values are most like the missing one's; "" if none is."""
    known = {other.name for other in profile.columns}
    then, best = summarize(column, reference[column.name]), ("", LOOKS_LIKE)
    if then is None or not then.finite:
        return ""
    for name in [name for name in window if name not in known][:MOST_NEW]:
        values = numbers_of(window[name])
        if values is None or describe(name, values).kind != column.kind:
            continue
        now = summarize(column, values)
        if now is None or not now.finite:
            continue
        method, _ = method_for(column, DEFAULT)
        p = calibrate(method, then, now, score_of(method, then, now), LOOKS_LIKE).p
        best = max(best, (name, p), key=lambda found: found[1])
    return best[0]


def _change(pair: Pair) -> str:
    then, now = pair.reference, pair.window
    if then.numbers is not None and now.numbers is not None:
        return f"median {np.median(then.numbers):.4g} → {np.median(now.numbers):.4g}"
    old, new = ({name: n / side.finite for name, n in (side.counts or {}).items()} for side in (then, now))
    names = sorted({*old, *new})
    most = max(names, key=lambda name: abs(new.get(name, 0.0) - old.get(name, 0.0)))
    return f"share of {most!r} {old.get(most, 0.0):.1%} → {new.get(most, 0.0):.1%}"
