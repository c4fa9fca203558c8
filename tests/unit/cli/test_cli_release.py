"""What `trimtab release` says of a release, whatever metric it is judged by."""

from __future__ import annotations

from typing import get_args

import pytest

from deployments.cli.flows import text_of
from trimtab.task import Metric


@pytest.mark.parametrize("metric", get_args(Metric))
def test_a_release_is_told_with_the_metric_it_was_judged_by(metric: str) -> None:
    figures = {"speedup": 2.0, "speedup_spread": "1.9x to 2.1x", "size_ratio": 3.0, "p50_ms": 0.5, "report_url": None}
    named = {"version": 3, "serving": 3, "label": "int8", "target": "onnxruntime-cpu", "difference": "none"}
    assert f"{metric} 0.9 (original 0.8, n=20); none" in text_of(
        {**figures, **named, metric: "0.9 (original 0.8, n=20)"}
    )
