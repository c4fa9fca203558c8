"""How far a window is from the reference: one score a method, named as Evidently names its tests.

Each score is a property of the two distributions and not of the number of rows, so that a summary has the score of what
it sums up, and each has its threshold calibrated to the rows (`thresholds`). That is what differs from Evidently's
tests of the same names, some of which are p-values, and whose bins follow the number of rows:

    anderson        integral of (F − G)² / (H (1 − H)) dH, H = (F + G) / 2, ties split (Anderson and Darling 1952;
                    Scholz and Stephens 1987): sees shifts in the tails as well as in the middle
    ks              largest |F − G|
    wasserstein     mean distance of the quantiles, in standard deviations of the reference
    psi             Σ (q − p) ln(q / p), shares of 0 counted as 0.0001
    jensenshannon   √ of the divergence, natural logarithms
    hellinger       √(1 − Σ √(p q))
    TVD             ½ Σ |p − q|
    chisquare       Σ (p − q)² / (p + q)

F and p are of the reference, G and q of the window. The last five take shares of categories; of a numeric column, of
16 bins between quantiles of the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Array = np.ndarray
ORDERED = ("anderson", "ks", "wasserstein")
BINS = 16
LEAST_SHARE = 1e-4
LEAST_SPREAD = 1e-3  # as in Evidently: a reference that hardly varies does not make every window drift


def steps(reference: Array, window: Array) -> tuple[Array, Array, Array]:
    """Both distribution functions at each distinct value.

    Args:
        reference, window: sorted float64 (m,) and (n,).

    Returns:
        values x (u,), distinct and sorted; F(x) of the reference and G(x) of the window, float64 (u,).
    """
    pooled = np.concatenate([reference, window])
    order = np.argsort(pooled, kind="stable")
    ordered, of_window = pooled[order], order >= len(reference)
    last = np.append(np.flatnonzero(np.diff(ordered) > 0), len(ordered) - 1)
    later = np.cumsum(of_window)[last]
    return ordered[last], (last + 1 - later) / len(reference), later / len(window)


def anderson(then: Array, now: Array) -> float:
    """The Anderson–Darling distance of two distribution functions at each distinct value, float64 (u,), ending in 1.

    Ties count half to either side, which keeps the largest eigenvalue of the null distribution at ½ and their sum at 1
    or below, whatever the ties; `heaviest` says how much they matter.
    """
    middle = (then + now) / 2
    inner = middle[:-1]
    weight = (middle[1:] - np.append(0.0, inner[:-1])) / 2 if len(inner) else np.empty(0)
    inside = inner * (1 - inner)
    return float(((then - now)[:-1] ** 2 / inside * weight).sum()) if len(inner) else 0.0


def heaviest(then: Array, now: Array) -> float:
    """The largest share that one value has of both sides, of two distribution functions float64 (u,)."""
    return float(np.diff((then + now) / 2, prepend=0.0).max())


def ordered_score(method: str, reference: Array, window: Array) -> float:
    """Score of two sorted samples, float64 (m,) and (n,), by one of `ORDERED`."""
    values, then, now = steps(reference, window)
    if method == "anderson":
        return anderson(then, now)
    if method == "ks":
        return float(np.abs(then - now).max())
    gaps = np.diff(values)
    return float((np.abs(then - now)[:-1] * gaps).sum()) / spread(reference)


def spread(reference: Array) -> float:
    """What the Wasserstein distance is measured in: the reference's standard deviation, 0.001 at least."""
    return max(float(np.std(reference)), LEAST_SPREAD)


def cuts(reference: Array) -> Array:
    """Inner ends of the reference's bins, float64 (b − 1,), b ≤ 16; a bin holds what is above one end up to the next.

    Args:
        reference: sorted float64 (m,), m ≥ 1.
    """
    place = (np.arange(1, BINS) * len(reference)) // BINS
    inner: Array = np.unique(reference[np.minimum(place, len(reference) - 1)])
    return inner[inner < reference[-1]]


def binned(values: Array, inner: Array) -> dict[str, int]:
    """Counts of sorted values by bin; a bin without any is left out."""
    ends = np.concatenate([[0], np.searchsorted(values, inner, "right"), [len(values)]])
    return {f"{index:02d}": int(n) for index, n in enumerate(np.diff(ends)) if n}


def shares(reference: Mapping[str, int], window: Mapping[str, int]) -> tuple[Array, Array]:
    """Counts of the categories that either side has, float64 (c,) each, in the order of their names."""
    names = sorted({name for side in (reference, window) for name, n in side.items() if n})
    return (
        np.array([reference.get(name, 0) for name in names], np.float64),
        np.array([window.get(name, 0) for name in names], np.float64),
    )


def share_scores(method: str, reference: Array, window: Array) -> Array:
    """Scores of tables of counts.

    Args:
        method: one that is not in `ORDERED`.
        reference, window: (..., c) counts, some above 0.

    Returns:
        float64 (...).
    """
    p = reference / reference.sum(axis=-1, keepdims=True)
    q = window / window.sum(axis=-1, keepdims=True)
    result: Array = _OF_SHARES[method](p, q)
    return result


def _psi(p: Array, q: Array) -> Array:
    p, q = np.where(p > 0, p, LEAST_SHARE), np.where(q > 0, q, LEAST_SHARE)
    return ((q - p) * np.log(q / p)).sum(axis=-1)


def _jensenshannon(p: Array, q: Array) -> Array:
    middle = (p + q) / 2
    divergence = sum((_times_log(side, middle) for side in (p, q)), np.zeros(p.shape[:-1])) / 2
    return np.sqrt(np.maximum(divergence, 0.0))


def _times_log(p: Array, middle: Array) -> Array:
    ratio = np.divide(p, middle, out=np.ones_like(p), where=p > 0)
    return (p * np.log(ratio)).sum(axis=-1)


def _hellinger(p: Array, q: Array) -> Array:
    return np.sqrt(np.maximum(1 - np.sqrt(p * q).sum(axis=-1), 0.0))


def _tvd(p: Array, q: Array) -> Array:
    return np.abs(p - q).sum(axis=-1) / 2


def _chisquare(p: Array, q: Array) -> Array:
    both = p + q
    return np.divide((p - q) ** 2, both, out=np.zeros_like(both), where=both > 0).sum(axis=-1)


_OF_SHARES: Mapping[str, Callable[[Array, Array], Array]] = {
    "psi": _psi,
    "jensenshannon": _jensenshannon,
    "hellinger": _hellinger,
    "TVD": _tvd,
    "chisquare": _chisquare,
}
