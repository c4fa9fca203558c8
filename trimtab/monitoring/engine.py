"""The one place that imports Evidently: late, with its telemetry off and our test registered."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from trimtab.monitoring import homogeneity

# evidently.telemetry reads the first, the iterative_telemetry package below it the second; any value means "off".
# A process that starts `evidently ui` needs them in its environment too.
TELEMETRY_OFF = {"DO_NOT_TRACK": "1", "ITERATIVE_DO_NOT_TRACK": "1"}


@functools.cache
def evidently() -> Any:
    """The names of Evidently that are used here.

    Importing it costs about 3 s and 300 MB (0.7.23), so nothing else imports it and nothing imports it before a window
    is really compared.
    """
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
    with quiet():
        from evidently import DataDefinition, Dataset, MulticlassClassification, Regression, Report
        from evidently.core.report import Snapshot
        from evidently.legacy.calculations.stattests import StatTest, register_stattest
        from evidently.legacy.core import ColumnType
        from evidently.legacy.renderers.html_widgets import table_data, text_widget
        from evidently.metrics import ValueDrift
        from evidently.presets import ClassificationPreset, DataDriftPreset, RegressionPreset
        from evidently.ui.workspace import Workspace

    register_stattest(
        StatTest(
            name=homogeneity.NAME,
            display_name=homogeneity.DISPLAY_NAME,
            allowed_feature_types=[ColumnType.Categorical],
        ),
        _two_sample,
    )
    return SimpleNamespace(
        DataDefinition=DataDefinition,
        Dataset=Dataset,
        MulticlassClassification=MulticlassClassification,
        Regression=Regression,
        RegressionPreset=RegressionPreset,
        Report=Report,
        Snapshot=Snapshot,
        ValueDrift=ValueDrift,
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


def _two_sample(reference: Any, current: Any, feature_type: Any, threshold: float) -> tuple[float, bool]:
    p = homogeneity.homogeneity_p(reference.to_numpy(str), current.to_numpy(str), threshold)
    return p, p <= threshold
