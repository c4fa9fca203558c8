"""Do two samples of categories come from one distribution? Chi-square with a permutation p-value.

Evidently's own "chisquare" takes the reference's shares for the true ones (a one-sample test). With a reference of the
window's size that doubles the variance of the statistic and with it the false alarms, and a constant column gives NaN.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray
NAME = "chisquare_two_sample"
DISPLAY_NAME = "chi-square (two samples) p_value"
CLEARLY_NOT = 0.05
LEAST_RESAMPLES = 9_999
SEED = 0


def homogeneity_p(reference: Array, current: Array, threshold: float) -> float:
    """p-value of "both samples have the same category shares", valid at any sample size.

    The permutation p-value (1 + exceedances) / (1 + resamples) of the chi-square statistic over tables with the
    observed margins (Phipson and Smyth 2010) holds its level with sparse and new categories, where the asymptotic one
    does not. It is only drawn when the asymptotic p-value is below 0.05: above that no alarm is near, so leaving it out
    can only make alarms rarer. Same samples, same p: the seed is fixed.

    Args:
        reference, current: (n,) and (m,) categories as text; not empty.
        threshold: level the p-value will be held against; sets how finely it is resolved.

    Returns:
        p in (0, 1]; 1.0 when all values are one category.
    """
    from scipy.stats import MonteCarloMethod, chi2_contingency  # here: importing scipy.stats takes a second

    categories = np.union1d(reference, current)
    if len(categories) < 2:
        return 1.0
    table = np.array([[np.count_nonzero(sample == c) for c in categories] for sample in (reference, current)])
    asymptotic = float(chi2_contingency(table, correction=False).pvalue)
    if asymptotic > CLEARLY_NOT:
        return asymptotic
    resamples = max(LEAST_RESAMPLES, math.ceil(4 / threshold))
    method = MonteCarloMethod(n_resamples=resamples, batch=20_000, rng=np.random.default_rng(SEED))
    return float(chi2_contingency(table, correction=False, method=method).pvalue)
