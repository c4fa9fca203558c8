"""How often identical data raise a drift verdict, and how often a small shift is found; over fresh references."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.monitor.tables import NUMERIC, REFERENCE_ROWS, SHIFTED, table
from trimtab.monitoring.columns import PREDICTED
from trimtab.monitoring.drift import compare
from trimtab.monitoring.profile import LABEL
from trimtab.monitoring.table import table_profile
from trimtab.recipe.drift import Drift

ALPHA = 0.01


def drifted(rng: np.random.Generator, rows: int, rules: Drift, shift: float = 0.0) -> set[str]:
    """The columns called drifted in one window against one reference, both new."""
    then, now = table(rng, REFERENCE_ROWS), table(rng, rows, {SHIFTED: shift})
    whole = table_profile(then, PREDICTED, LABEL, NUMERIC)
    profile = replace(whole, columns=tuple(column for column in whole.columns if column.name in NUMERIC))
    window = {name: values for name, values in now.items() if name in NUMERIC}
    results = compare(window, then, profile, ALPHA, rules).results
    return {result.name for result in results if result.drifted}


def false_alarms(rows: int, windows: int, seed: int, rules: Drift) -> dict[str, Any]:
    """Share of windows with a drifted column among 20, and the upper end of its exact one-sided 95 % interval."""
    from scipy.stats import beta

    found = sum(bool(drifted(np.random.default_rng([seed, 2, rows, i]), rows, rules)) for i in range(windows))
    upper = float(beta.ppf(0.95, found + 1, windows - found)) if found < windows else 1.0
    return {"share": found / windows, "upper95": round(upper, 5), "windows": windows}


def power(rows: int, windows: int, seed: int, rules: Drift, shift: float = 0.2) -> float:
    """Share of windows in which a shift of one column by 0.2 standard deviations is found in that column."""
    rngs = (np.random.default_rng([seed, 3, rows, i]) for i in range(windows))
    return sum(SHIFTED in drifted(rng, rows, rules, shift) for rng in rngs) / windows
