"""Every figure of a window over its labelled rows, beside the release's own, and the one of them that decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from trimtab.errors import TrimtabError
from trimtab.monitoring.class_figures import class_figures, slice_figures
from trimtab.monitoring.metrics import ALL, Figure, chosen_of, find, written
from trimtab.monitoring.number_figures import number_figures, slice_numbers
from trimtab.monitoring.performance import Performance, measure, measure_figure, measure_numbers
from trimtab.monitoring.performance_reference import PerformanceReference
from trimtab.monitoring.profile import Profile
from trimtab.monitoring.windows import Answered

if TYPE_CHECKING:
    from trimtab.recipe.schema import Monitoring

Array = np.ndarray
SliceRows = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True)
class Measured:
    """What was measured: the deciding metric, every figure, and what is to be said beside them."""

    performance: Performance
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]


def measured(
    rows: Answered,
    profile: Profile,
    monitoring: Monitoring,
    known: PerformanceReference | None,
    slices: SliceRows | None,
) -> Measured:
    """Figures of the labelled rows, each with the release's own where that is known.

    Where `monitoring.metric` asks for one of which nothing was verified, the usual one decides, and a note says so.

    Args:
        rows: answered by the version that `profile` and `known` are of. slices: the recipe's, computed from inputs.
    """
    label, scored = _scored(rows, profile)
    masks, note = _masks(rows, scored, slices)
    output = rows.output[:, : profile.classes][scored]
    if profile.metric is None:
        whole = class_figures(output, rows.predicted[scored], label[scored], profile.classes)
        parts = slice_figures(rows.predicted[_with_inputs(rows, scored)], label[_with_inputs(rows, scored)], masks)
    else:
        numbers = label[:, None]
        whole = number_figures(output, numbers[scored])
        within = _with_inputs(rows, scored)
        answers = rows.output[:, : profile.classes][within]
        parts = slice_numbers(profile.metric, answers, numbers[within], masks)
    figures = tuple(_beside(figure, known) for figure in (*whole, *parts))
    usual = _usual(rows, profile, monitoring, label)
    performance, other = _deciding(usual, profile, monitoring, figures, known)
    return Measured(performance, figures, tuple(line for line in (note, other) if line))


def as_numbers(label: Array) -> Array:
    """Labels of a regression, float64 (n,), NaN where there is none: a window without any has no floats to tell by."""
    return label if label.dtype.kind == "f" else np.where(label >= 0, label.astype(np.float64), np.nan)


def as_classes(label: Array) -> Array:
    """Labels of a classifier, int64 (n,), -1 where there is none, also where a regression was served in the window."""
    return label if label.dtype.kind != "f" else np.where(np.isfinite(label), label, -1).astype(np.int64)


def deciding(profile: Profile, monitoring: Monitoring) -> tuple[str, str]:
    """Which figure decides: its metric, and of what."""
    usual = profile.metric or "accuracy"
    metric = monitoring.metric or usual
    return metric, chosen_of(metric, monitoring.metric_class)


def _scored(rows: Answered, profile: Profile) -> tuple[Array, Array]:
    """Labels, and which rows have one that can be scored; labels of several outputs are not taken."""
    if profile.metric is None:
        label = as_classes(rows.label)
        return label, (label >= 0) & (label < profile.classes)
    label = as_numbers(rows.label)
    finite = np.isfinite(rows.output[:, : profile.classes]).all(axis=1)
    return label, np.isfinite(label) & finite & (profile.classes == 1)


def _with_inputs(rows: Answered, scored: Array) -> Array:
    return scored & rows.has_inputs


def _masks(rows: Answered, scored: Array, slices: SliceRows | None) -> tuple[Mapping[str, Array], str | None]:
    """Each slice over the scored rows whose inputs are known; and why there are none, where they could not be made."""
    if slices is None or rows.inputs is None:
        return {}, None
    try:
        found = slices(rows.inputs)
    except TrimtabError as error:
        return {}, f"the recipe's slices are left out: {error.what.splitlines()[0]}"
    return {name: mask[scored[rows.has_inputs]] for name, mask in found.items()}, None


def _beside(figure: Figure, known: PerformanceReference | None) -> Figure:
    own = None if known is None else known.verified(figure.metric, figure.of)
    return figure if own is None else replace(figure, verified=own.value)


def _deciding(
    usual: Performance,
    profile: Profile,
    monitoring: Monitoring,
    figures: Sequence[Figure],
    known: PerformanceReference | None,
) -> tuple[Performance, str | None]:
    metric, of = deciding(profile, monitoring)
    if (metric, of) == (profile.metric or "accuracy", ALL):
        return usual, None
    found, verified = find(figures, metric, of), None if known is None else known.verified(metric, of)
    if found is None or verified is None:
        return usual, f"of this release no {written(metric, of)} was verified: {usual.name} decides; release again"
    return measure_figure(found, verified, usual, monitoring.max_damage, monitoring.window.min_labels), None


def _usual(rows: Answered, profile: Profile, monitoring: Monitoring, label: Array) -> Performance:
    limits = profile.accuracy, monitoring.max_damage, monitoring.window.min_labels
    if profile.metric is None:
        return measure(rows.predicted, label, profile.classes, *limits)
    return measure_numbers(rows.output[:, : profile.classes], label, profile.metric, *limits)
