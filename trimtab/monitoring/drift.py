"""Evidently compares the window's columns with the reference's, each with a named test at a stated level."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from trimtab.monitoring.columns import OUTPUT_COLUMNS, is_prediction
from trimtab.monitoring.engine import evidently, quiet
from trimtab.monitoring.findings import Finding, find, missing
from trimtab.monitoring.frames import Frames, frames, prepared, threshold
from trimtab.monitoring.profile import ColumnProfile, Profile

Array = np.ndarray


@dataclass(frozen=True)
class ColumnResult:
    """What is said of one column.

    Attributes:
        test: name of the Evidently test, "" where none could be made.
        p: its p-value; None without a test.
        threshold: the level p is held against: family-wise alpha over the number of tests.
        drifted: p ≤ threshold.
        n: finite values in the window.
        change: what changed, in words.
        findings: what else is wrong with it.
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


def compare(
    window: Mapping[str, Array],
    reference: Mapping[str, Array],
    profile: Profile,
    alpha: float,
    *,
    inputs_journalled: bool = True,
    redacted: Collection[str] = (),
) -> tuple[ColumnResult, ...]:
    """Judge every column of the profile; a column that cannot be tested is a finding, and the others still are.

    On data like the reference at least one column is called drifted in at most a share `alpha` of windows, at any
    number of rows: both tests hold their level in small samples, and Bonferroni covers the number of columns.

    Args:
        window: name → (n,), n ≥ 1, from `columns`.
        reference: name → (m,), as stored with the release.
        profile: of the same release.
        alpha: family-wise level.
        inputs_journalled: False: input columns are absent on purpose.
        redacted: names of inputs whose columns are absent on purpose, where those of others are there.
    """
    pair = frames(window, reference, profile, alpha)
    p_values = evidently_p_values(pair) if pair.methods else {}
    level = threshold(profile, alpha)
    results = []
    for column in profile.columns:
        answers = column.name in OUTPUT_COLUMNS or is_prediction(column.name)
        journalled = answers or (inputs_journalled and not _of_one(column.name, redacted))
        here = column.name in window
        p = p_values.get(column.name)
        results.append(
            ColumnResult(
                name=column.name,
                kind=column.kind,
                test=pair.methods.get(column.name, ""),
                p=p,
                threshold=level,
                drifted=p is not None and p <= level,
                n=int(np.isfinite(window[column.name]).sum()) if here else 0,
                change=_change(column, window[column.name], reference[column.name]) if p is not None else "",
                findings=find(column, window[column.name], level) if here else (missing(journalled),),
            )
        )
    return tuple(results)


def _of_one(column: str, inputs: Collection[str]) -> bool:
    """Whether a column is of one of these inputs."""
    return any(column.startswith((f"{name}[", f"{name}.")) for name in inputs)


def evidently_p_values(pair: Frames) -> dict[str, float]:
    """p-value of every column, read from the results of an Evidently report."""
    engine = evidently()
    with quiet():
        run = engine.Report(
            [
                engine.ValueDrift(column=name, method=method, threshold=pair.threshold)
                for name, method in pair.methods.items()
            ]
        ).run(*datasets(pair))
        metrics = run.dict()["metrics"]
    return {metric["config"]["column"]: float(metric["value"]) for metric in metrics}


def datasets(pair: Frames) -> tuple[object, object]:
    """Current and reference as Evidently datasets, with every column's type said, none guessed."""
    engine = evidently()
    definition = engine.DataDefinition(numerical_columns=pair.numeric, categorical_columns=pair.categorical)
    return (
        engine.Dataset.from_pandas(pair.current, data_definition=definition),
        engine.Dataset.from_pandas(pair.reference, data_definition=definition),
    )


def _change(column: ColumnProfile, window: Array, reference: Array) -> str:
    new, old = prepared(column, window), prepared(column, reference)
    if column.kind == "numeric":
        return f"median {np.nanmedian(old):.4g} → {np.nanmedian(new):.4g}"
    shares = {}
    for category in sorted({value for value in (*new, *old) if value is not None}):
        shares[category] = (float((old == category).mean()), float((new == category).mean()))
    category, (before, after) = max(shares.items(), key=lambda item: abs(item[1][1] - item[1][0]))
    return f"share of {category!r} {before:.1%} → {after:.1%}"
