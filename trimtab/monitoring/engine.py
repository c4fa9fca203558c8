"""The one place that imports Evidently: late, with its telemetry off and our tests registered."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from trimtab.monitoring.scores import ORDERED, binned, cuts, ordered_score, share_scores, shares

PREFIX = "trimtab_"
TITLES = {
    "anderson": "Anderson-Darling distance",
    "ks": "K-S distance",
    "wasserstein": "Wasserstein distance (normed)",
    "psi": "PSI",
    "jensenshannon": "Jensen-Shannon distance",
    "hellinger": "Hellinger distance",
    "TVD": "total variation distance",
    "chisquare": "chi-square distance",
}
# evidently.telemetry reads the first, the iterative_telemetry package below it the second; any value means "off".
# A process that starts `evidently ui` needs them in its environment too.
TELEMETRY_OFF = {"DO_NOT_TRACK": "1", "ITERATIVE_DO_NOT_TRACK": "1"}


@functools.cache
def evidently() -> Any:
    """The names of Evidently that are used here.

    Importing it costs about 3 s and 300 MB (0.7.23), so nothing else imports it and nothing imports it before a page is
    really made: the verdict does without.
    """
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
    with quiet():
        from evidently import DataDefinition, Dataset, MulticlassClassification, Regression, Report
        from evidently.core.report import Snapshot
        from evidently.legacy.calculations.stattests import StatTest, register_stattest
        from evidently.legacy.core import ColumnType
        from evidently.legacy.renderers.html_widgets import table_data, text_widget
        from evidently.presets import ClassificationPreset, DataDriftPreset, RegressionPreset
        from evidently.ui.workspace import Workspace

    for method, title in TITLES.items():
        types = [ColumnType.Numerical] if method in ORDERED else [ColumnType.Numerical, ColumnType.Categorical]
        test = StatTest(name=PREFIX + method, display_name=f"{title}, calibrated", allowed_feature_types=types)
        register_stattest(test, functools.partial(_scored, method))
    return SimpleNamespace(
        DataDefinition=DataDefinition,
        Dataset=Dataset,
        MulticlassClassification=MulticlassClassification,
        Regression=Regression,
        RegressionPreset=RegressionPreset,
        Report=Report,
        Snapshot=Snapshot,
        ClassificationPreset=ClassificationPreset,
        DataDriftPreset=DataDriftPreset,
        Workspace=Workspace,
        table_data=table_data,
        text_widget=text_widget,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without Evidently 0.7.23's warnings about sound input (downcasting, correlation of a constant, one class)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _scored(method: str, reference: Any, current: Any, feature_type: Any, threshold: float) -> tuple[float, bool]:
    """One of our scores as an Evidently test: drift from the threshold on; which threshold, the report says."""
    if feature_type.value == "num":
        then, now = (np.sort(side.to_numpy(np.float64)) for side in (reference, current))
        if method in ORDERED:
            score = ordered_score(method, then, now)
            return score, score >= threshold
        inner = cuts(then)
        tables = shares(binned(then, inner), binned(now, inner))
    else:
        counts = ({str(name): int(n) for name, n in side.value_counts().items()} for side in (reference, current))
        tables = shares(*counts)
    score = float(share_scores(method, *tables))
    return score, score >= threshold
