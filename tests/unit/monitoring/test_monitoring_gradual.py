from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import monitoring_world as world
import numpy as np
import pytest
from scipy.stats import binomtest

from trimtab.monitoring.drift import Comparison, compare, gradual_level
from trimtab.monitoring.gradual import Trace, gather
from trimtab.monitoring.judge import judge
from trimtab.monitoring.profile import Profile
from trimtab.monitoring.verdict import Verdict
from trimtab.recipe.drift import Drift
from trimtab.recipe.schema import Monitoring

Array = np.ndarray
ALPHA = 0.01


def release(rng: np.random.Generator, rows: int = 2000) -> tuple[Profile, dict[str, Array]]:
    profile, reference = world.tabular(np.column_stack([rng.normal(size=rows), rng.integers(0, 4, rows)]))
    inputs = tuple(column for column in profile.columns if column.name.startswith("input"))
    return replace(profile, columns=inputs), reference


def compared(
    rng: np.random.Generator, profile: Profile, reference: dict[str, Array], rows: int = 200, shift: float = 0.0
) -> Comparison:
    codes = np.minimum(rng.integers(0, 4, rows) + (rng.random(rows) < shift), 3)
    now = {"input[0]": rng.normal(shift, 1, rows), "input[1]": codes}
    return compare(now, reference, profile, ALPHA)


@pytest.mark.parametrize("name", ["input[0]", "input[1]"])
def test_a_shift_that_no_window_shows_is_found_over_windows(name: str) -> None:
    rng = np.random.default_rng(0)
    profile, reference = release(rng)
    traces: tuple[Trace, ...] = ()
    seen, found = 0, 0
    for _ in range(40):
        here = compared(rng, profile, reference, shift=0.12)
        seen += any(result.drifted for result in here.results if result.name == name)
        traces = gather(here.sound(), traces, 20, gradual_level(profile, ALPHA))
        found += any(trace.drifted for trace in traces if trace.name == name)
    assert seen < 10
    assert found > 12


def test_data_like_the_reference_are_called_gradually_drifted_as_rarely_as_stated() -> None:
    rng = np.random.default_rng(1)
    alarms = references = 0
    for _ in range(30):
        profile, reference = release(rng, 500)
        traces: tuple[Trace, ...] = ()
        for _ in range(12):
            traces = gather(compared(rng, profile, reference).sound(), traces, 20, gradual_level(profile, 0.2))
        alarms += any(trace.drifted for trace in traces)
        references += 1
    assert binomtest(alarms, references, 0.2 * 0.25, alternative="greater").pvalue > 0.001


def test_a_window_that_drifted_by_itself_is_not_gathered() -> None:
    rng = np.random.default_rng(2)
    profile, reference = release(rng)
    level = gradual_level(profile, ALPHA)
    before = gather(compared(rng, profile, reference).sound(), (), 20, level)
    broken = compared(rng, profile, reference, shift=3.0)
    after = {trace.name: trace for trace in gather(broken.sound(), before, 20, level)}
    (kept,) = [trace for trace in before if trace.name == "input[0]"]
    assert (after["input[0]"].counts, after["input[0]"].windows, after["input[0]"].p) == (kept.counts, 1, None)


def test_weights_fade_and_rows_are_worth_less_than_they_are() -> None:
    rng = np.random.default_rng(3)
    profile, reference = release(rng)
    traces: tuple[Trace, ...] = ()
    for _ in range(60):
        traces = gather(compared(rng, profile, reference).sound(), traces, 9, 1e-9)
    for trace in traces:
        assert sum(trace.counts.values()) == pytest.approx(200 * 5, rel=0.01)  # 1 / λ windows
        assert trace.rows == pytest.approx(200 * 9, rel=0.01)  # (2 − λ) / λ windows
    assert all(trace.windows == 60 for trace in traces)


def later(windows: int = 1, **more: Any) -> world.FakeWindow:
    """A window so many windows after the first one."""
    window = world.window(**more)
    return window.but(lo=window.lo + 200 * windows, hi=window.hi + 200 * windows)


def test_the_state_is_in_the_verdict_and_gives_the_same_bytes_again() -> None:
    profile, reference = world.release()
    first = judge(world.window(seed=1), profile, reference, world.MONITORING)
    second = judge(later(seed=2), profile, reference, world.MONITORING, past=[first])
    stored = Verdict.from_json(json.loads(json.dumps(first.to_json(), allow_nan=False)))
    again = judge(later(seed=2), profile, reference, world.MONITORING, past=[stored])
    assert json.dumps(again.to_json(), sort_keys=True) == json.dumps(second.to_json(), sort_keys=True)
    assert {trace.windows for trace in second.gradual} == {2}
    assert {trace.windows for trace in first.gradual} == {1}
    other_version = judge(later(seed=2, version="4"), profile, reference, world.MONITORING, past=[first])
    assert {trace.windows for trace in other_version.gradual} == {1}


def test_gradual_drift_makes_a_verdict_of_drift_and_says_so() -> None:
    profile, reference = world.release(n=2000)
    past: list[Verdict] = []
    for seed in range(2, 30):
        window = later(seed=seed, contrast=0.98, windows=seed)
        past.append(judge(window, profile, reference, world.MONITORING, past=past))
        if past[-1].gradually:
            break
    before = past[-1]
    assert before.gradually
    assert before.kind == "drift"
    assert set(before.gradually) <= set(before.drifted)
    assert any("drifted gradually: p = " in reason for reason in before.reasons)


def test_it_can_be_switched_off() -> None:
    profile, reference = world.release()
    monitoring = Monitoring(drift=Drift(memory=0))
    verdict = judge(world.window(), profile, reference, monitoring)
    assert verdict.gradual == ()
    assert "gradual" not in verdict.to_json()


def test_a_window_of_too_few_rows_keeps_the_state_without_saying_anything() -> None:
    profile, reference = world.release()
    first = judge(world.window(seed=1), profile, reference, world.MONITORING)
    tiny = judge(later(seed=2, n=8), profile, reference, world.MONITORING, past=[first])
    assert [trace.counts for trace in tiny.gradual] == [trace.counts for trace in first.gradual]
    assert tiny.drifted == ()
