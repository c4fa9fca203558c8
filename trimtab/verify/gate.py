"""The gate: does the evidence meet the budget. Pure and deterministic; every answer comes with words and figures.

Accuracy is decided by the interval. Where the point estimate is within the margin but the interval reaches beyond
it, the answer is "undecided": the data are too few, and the decision says how many more rows would do. Where the
point itself is beyond the margin, the answer is "fail". Slices have a rule of their own (`slice_check`). Nothing a
candidate does better can turn a pass into a fail.
"""

from __future__ import annotations

from collections.abc import Iterator

from trimtab.errors import DataError
from trimtab.recipe.schema import Budget
from trimtab.verify.accuracy import Paired
from trimtab.verify.decision import ROUNDING, Answer, Check, Decision
from trimtab.verify.evidence import Evidence
from trimtab.verify.interval_checks import check_attributions, check_trust
from trimtab.verify.numbers import PairedNumbers
from trimtab.verify.parity import Parity
from trimtab.verify.planning import more, rows_for_difference, rows_for_share
from trimtab.verify.rival import check_rival
from trimtab.verify.slice_check import check_slices
from trimtab.verify.slices import together
from trimtab.verify.words import smaller

__all__ = ["Answer", "Check", "Decision", "decide"]


def decide(evidence: Evidence, budget: Budget, confidence: float) -> Decision:
    """Check the evidence against the budget.

    Args:
        confidence: what the decision is to be made with, corrected for the number of finalists by the caller; the
            intervals in the evidence must have been computed with at least this.

    Raises:
        DataError: an interval in the evidence has a lower confidence, or slices are asked for that were not measured.
    """
    _check_confidence(evidence, confidence)
    checks: list[Check] = []
    needed: list[int | None] = []
    for check, rows in _accuracy_checks(evidence, budget):
        checks.append(check)
        if check.passed is None:
            needed.append(rows)
    checks += [_speed(evidence, budget), _size(evidence, budget), *_p99(evidence, budget)]
    if evidence.rival is not None:
        checks.append(check_rival(evidence.rival))
    if any(check.passed is False for check in checks):
        return Decision("fail", tuple(checks), None)
    if needed:
        known = [rows for rows in needed if rows is not None]
        return Decision("undecided", tuple(checks), max(known) if len(known) == len(needed) else None)
    return Decision("pass", tuple(checks), None)


def _accuracy_checks(evidence: Evidence, budget: Budget) -> Iterator[tuple[Check, int | None]]:
    for split, paired in evidence.paired.items():
        yield _not_below(f"{paired.name} on {split}, against the original", paired, -budget.max_drop)
    for split, paired in (evidence.versus_champion or {}).items():
        yield _not_below(f"{paired.name} on {split}, against the champion", paired, -budget.max_drop)
    if evidence.must_improve is not None and evidence.versus_champion is not None:
        paired = evidence.versus_champion[evidence.must_improve]
        yield _not_below(f"better than the champion on {evidence.must_improve}", paired, 0.0, strictly=True)
    if budget.max_slice_drop is not None:
        if evidence.slices is None:
            raise DataError("no slices were measured", where="budget.max_slice_drop", fix="measure them for the gate")
        yield check_slices(evidence.slices, budget.max_slice_drop)
    yield from check_trust(evidence.trust, budget.max_calibration_rise)
    yield from check_attributions(evidence.attributions, budget.min_attribution_correlation)
    yield from _parity(evidence.parity, budget)
    yield from _further(evidence.parity, budget.max_output_difference)


def _not_below(
    name: str, paired: Paired | PairedNumbers, limit: float, strictly: bool = False
) -> tuple[Check, int | None]:
    """Whether the lower end of the difference is at or above (`strictly`: above) the limit."""
    difference = paired.difference
    point = difference.value > limit + ROUNDING if strictly else difference.value >= limit - ROUNDING
    end = difference.low > limit + ROUNDING if strictly else difference.low >= limit - ROUNDING
    passed = True if end else None if point else False
    rows = rows_for_difference(paired, limit) if passed is None else None
    word = "above 0" if strictly else paired.within(limit)
    figures = (
        f"{paired.amount(difference.value)} ({100 * difference.confidence:.4g} % interval "
        f"{paired.bare(difference.low)} to {paired.bare(difference.high)}; {paired.counts})"
    )
    reason = {
        True: f"{figures}; the whole interval is {word}",
        False: f"{figures}; the estimate itself is not {word}",
        None: f"{figures}; the interval is not all {word}: too few rows to say{more(rows)}",
    }[passed]
    return Check(name, limit, difference.value, difference, passed, reason), rows


def _parity(parity: Parity, budget: Budget) -> Iterator[tuple[Check, int | None]]:
    """FP32: the numbers must agree. Else: the upper end of the share of other decisions must be within the budget.

    The first layer that differs, if one is known, is said once: with what is wrong.
    """
    where = f"; {parity.where}" if parity.where else ""
    if parity.atol is not None:
        numbers = parity.tolerance is not None
        wrong = parity.max_abs > parity.atol
        of_what = " of the largest answer" if numbers else ""
        reason = f"largest difference {parity.max_abs:.2e}{of_what} on {parity.rows} rows; {parity.atol:g} is allowed"
        reason += where if wrong else ""
        name = "answers equal torch's" if numbers else "probabilities equal torch's"
        yield Check(name, parity.atol, parity.max_abs, None, not wrong, reason), None
    else:
        wrong = parity.disagreement.value > budget.max_disagreement + ROUNDING
        yield _disagreement(parity, budget.max_disagreement, where if wrong else "")
    deciding = [edge for edge in parity.edges if edge.decides]
    failing = [edge for edge in deciding if not edge.ok]
    reason = "; ".join(f"{edge.name}: {edge.detail}" for edge in failing) or f"all {len(deciding)} probes are right"
    reason += where if failing and not wrong else ""
    yield Check("answers at the edges", 0.0, float(len(failing)), None, not failing, reason), None


def _further(parity: Parity, limit: float | None) -> Iterator[tuple[Check, int | None]]:
    """Outputs beside the one that decides: FP32 like torch's; and near the original's, where the budget says how near.

    Raises:
        DataError: the budget speaks of them, and there are none, or the original's were not compared.
    """
    if limit is not None and (not parity.further or any(one.from_original is None for one in parity.further)):
        raise DataError("no further outputs were compared", where="budget.max_output_difference", fix="leave it out")
    for one in parity.further:
        if parity.atol is not None:
            reason = f"largest difference {one.largest:.2e} of its largest value; {parity.atol:g} is allowed"
            passed = one.largest <= parity.atol
            yield Check(f"output {one.name} equals torch's", parity.atol, one.largest, None, passed, reason), None
        if limit is not None and one.from_original is not None:
            passed = one.from_original <= limit + ROUNDING
            reason = f"root mean square difference {one.from_original:.3g} of its values'; {limit:g} is allowed"
            yield Check(f"output {one.name} near the original's", limit, one.from_original, None, passed, reason), None


def _disagreement(parity: Parity, limit: float, where: str) -> tuple[Check, int | None]:
    share = parity.disagreement
    passed = True if share.high <= limit + ROUNDING else None if share.value <= limit + ROUNDING else False
    rows = rows_for_share(share, limit) if passed is None else None
    numbers = parity.tolerance is not None
    otherwise = f"differ by more than {parity.tolerance:g} standard deviations" if numbers else "decided otherwise"
    figures = f"{share.value:.2%} of {share.n} rows {otherwise}, up to {share.high:.2%}; {limit:.2%} is allowed"
    reason = f"{figures}{where}" if passed is not None else f"{figures}: too few rows to say{more(rows)}"
    return Check(
        "answers near torch's" if numbers else "decisions equal torch's", limit, share.value, share, passed, reason
    ), rows


def _speed(evidence: Evidence, budget: Budget) -> Check:
    batch = evidence.first_batch
    latency, floor = evidence.latency[batch], evidence.noise_floor[batch]
    figures = (
        f"{latency.speedup:.2f}x at batch {batch} ({latency.speedup_low:.2f}x to {latency.speedup_high:.2f}x "
        f"over {latency.rounds} rounds); at least {budget.min_speedup:g}x is asked"
    )
    noise = f"the baseline differs from itself by up to {floor:.0%}"
    small = abs(latency.speedup - 1) <= floor
    reason = f"no gain: {figures}, and {noise}" if small else f"{figures}; {noise}"
    passed = latency.speedup >= budget.min_speedup
    return Check(f"speed-up at batch {batch}", budget.min_speedup, latency.speedup, None, passed, reason)


def _size(evidence: Evidence, budget: Budget) -> Check:
    ratio = evidence.size_ratio
    reason = (
        f"{evidence.size_bytes:,} bytes shipped, {evidence.original_size_bytes:,} before: {smaller(ratio)}; "
        f"at least {budget.min_size_ratio:g}x is asked"
    )
    return Check("size", budget.min_size_ratio, ratio, None, ratio >= budget.min_size_ratio, reason)


def _p99(evidence: Evidence, budget: Budget) -> Iterator[Check]:
    if budget.max_p99_ms is None:
        return
    batch = evidence.first_batch
    p99_ms = 1e3 * evidence.latency[batch].p99_s
    reason = f"{p99_ms:.3f} ms over {evidence.latency[batch].n} calls; at most {budget.max_p99_ms:g} ms is allowed"
    yield Check(f"p99 at batch {batch}", budget.max_p99_ms, p99_ms, None, p99_ms <= budget.max_p99_ms, reason)


def _check_confidence(evidence: Evidence, confidence: float) -> None:
    champion = evidence.versus_champion or {}
    intervals = [paired.difference for paired in (*evidence.paired.values(), *champion.values())]
    lowest = min(one.confidence for one in (*intervals, evidence.parity.disagreement))
    if evidence.slices is not None:
        lowest = min(lowest, together(evidence.slices))
    if evidence.trust is not None:
        lowest = min(lowest, evidence.trust.ece_rise.confidence)
    if evidence.attributions is not None:
        lowest = min(lowest, evidence.attributions.correlation.confidence)
    if lowest < confidence - ROUNDING:
        raise DataError(
            f"an interval of {lowest:g} cannot decide at {confidence:g}",
            where="evidence",
            fix="compute the intervals with the confidence the gate decides with",
        )
