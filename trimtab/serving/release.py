"""A release folder becomes something that answers: verified, loaded, warmed, proven and timed on its golden rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trimtab import runtime
from trimtab.errors import StateError
from trimtab.serving.keeping import Keeping
from trimtab.serving.limits import Limits
from trimtab.serving.measuring import Subject, plan_for
from trimtab.serving.plan import Plan
from trimtab.store import folder_digests
from trimtab.task import PREDICTION, PROBABILITIES

Array = np.ndarray
WARM_CALLS = 3
# Largest difference from the recorded probabilities, of numbers as a share of the largest recorded one: another CPU may
# add in another order (FP32), or round an accumulator to the neighbouring step (INT8).
TOLERANCE = {
    **dict.fromkeys(("fp32", "fp16", "clustered", "sparse"), 1e-3),
    **dict.fromkeys(("int8", "int8-dynamic", "int8-nncf"), 5e-2),
}

_KEEPING_FIX = "correct serving.journal in the recipe, then `trimtab up RECIPE`"


class Predictor(Protocol):
    """What runs a model: as in `trimtab.runtime`."""

    spec: dict[str, Any]
    reentrant: bool

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for inputs name → array (batch, ...)."""


class ReleaseRefused(StateError):
    """A release that must not serve: changed, not loadable, or it does not answer as it did when it was verified."""


@dataclass(frozen=True)
class Loaded:
    """A release in memory; never changed, replaced as a whole.

    Attributes:
        version: of the registered model. facts: release.json.
        since_ns: when it was loaded, nanoseconds since the epoch.
        example: name → (1, ...), a golden row to show how it is asked; zeros where inputs are private.
        plan: how its model is called.
    """

    name: str
    version: str
    predictor: Predictor
    limits: Limits
    facts: Mapping[str, Any]
    since_ns: int
    example: Mapping[str, Array] = field(default_factory=dict, compare=False, repr=False)
    plan: Plan = field(default_factory=Plan)

    @property
    def regression(self) -> bool:
        """Whether it answers numbers."""
        return self.facts.get("task") == "regression"

    @property
    def output(self) -> str:
        """What its answer is called."""
        return PREDICTION if self.regression else PROBABILITIES

    @property
    def classes(self) -> int:
        """Number of classes; of a regression, how many numbers a row it answers."""
        return int(self.facts["outputs" if self.regression else "classes"])


Check = Callable[[Path], Any]
Load = Callable[[str, Path, int], Predictor]


def check_manifest(folder: Path) -> None:
    """See that the folder holds exactly the files of its manifest.json, unchanged.

    Raises:
        ReleaseRefused: it does not, or has no manifest.
    """
    wanted = _object(folder, "manifest.json")
    present = folder_digests(folder)
    present.pop("manifest.json")
    present.pop("signature.json", None)  # of the manifest, so not in it; without keys it is not verified here
    changed = sorted(name for name in {*wanted, *present} if wanted.get(name) != present.get(name))
    if changed:
        raise ReleaseRefused(f"missing, added or changed: {changed[:5]}", where=str(folder), fix="fetch it again")


def load_release(
    folder: Path,
    version: str,
    *,
    check: Check = check_manifest,
    load: Load = runtime.load,
    threads: int | None = None,
    keeping: Keeping | None = None,
) -> Loaded:
    """Load a release, or refuse it.

    Args:
        folder: the release folder.
        version: what it is registered as.
        check: raises unless every file is as the manifest says.
        load: gives the predictor of (target, folder, threads).
        threads: instead of the release's own `serving.threads`.
        keeping: what the journal keeps, instead of the release's own `serving.journal`.

    Raises:
        ReleaseRefused: with the reason; nothing of it stays behind.
    """
    try:
        check(folder)
        facts = _object(folder, "release.json")
        limits = Limits.from_json(facts.get("serving", {}))
        limits = replace(limits, threads=threads or limits.threads, keeping=keeping or limits.keeping)
        predictor = load(facts["target"], folder, limits.threads)
        if misfit := limits.keeping.misfit(predictor.spec["inputs"]):
            raise ReleaseRefused(f"version {version}: serving.journal: {misfit}", where=str(folder), fix=_KEEPING_FIX)
        loaded = Loaded(str(facts["name"]), version, predictor, limits, facts, time.time_ns())
        _ = loaded.classes  # named by every release; a label could not be checked without it
        inputs, recorded = _golden(folder, loaded.output)
        _prove(loaded, inputs, recorded, folder, TOLERANCE[facts["precision"]])
        one = {name: values[:1] for name, values in inputs.items()}
        example = one if limits.keeping == Keeping() else _zeros(one)
        loaded = replace(loaded, example=example, plan=plan_for(Subject(predictor, inputs), limits))
    except ReleaseRefused:
        raise
    except Exception as error:  # a runtime raises whatever it likes on a bad file
        reason = str(error) if isinstance(error, StateError) else f"{type(error).__name__}: {error}"
        raise ReleaseRefused(f"version {version} cannot be loaded: {reason}", where=str(folder)) from error
    return loaded


def _zeros(rows: Mapping[str, Array]) -> dict[str, Array]:
    """Rows of the same form that say nothing: where the journal keeps no inputs, a page must not show one either."""
    return {name: np.zeros_like(values) for name, values in rows.items()}


def _golden(folder: Path, output: str) -> tuple[dict[str, Array], Array]:
    """Rows by input name, and the answers recorded for them."""
    with np.load(folder / "golden.npz", allow_pickle=False) as archive:
        inputs = {key.removeprefix("inputs/"): archive[key] for key in archive.files if key.startswith("inputs/")}
        return inputs, archive[f"outputs/{output}"]


def _prove(loaded: Loaded, inputs: Mapping[str, Array], recorded: Array, folder: Path, tolerance: float) -> None:
    """Warm the predictor and compare its answers on the golden rows with the recorded ones."""
    predictor = loaded.predictor
    one = {name: values[:1] for name, values in inputs.items()}
    for _ in range(WARM_CALLS):
        predictor.predict(one)
    answered = predictor.predict(inputs)[loaded.output]
    if answered.shape != recorded.shape or not np.isfinite(answered).all():
        raise ReleaseRefused(
            f"golden rows: answers {answered.shape} for the recorded {recorded.shape}, or not finite", where=str(folder)
        )
    scale = np.abs(recorded).max(axis=0) if loaded.regression else np.ones(recorded.shape[1])
    difference = float((np.abs(answered - recorded) / np.where(scale > 0, scale, 1.0)).max())
    if difference > tolerance:
        raise ReleaseRefused(
            f"golden rows: answers differ from the recorded ones by up to {difference:.3g}, allowed {tolerance:g}",
            where=str(folder),
            fix="serve it on a machine like the one that verified it, or release it again on this one",
        )


def _object(folder: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads((folder / name).read_bytes())
    except (OSError, ValueError) as error:
        raise ReleaseRefused(f"{name} cannot be read ({type(error).__name__})", where=str(folder)) from None
    if not isinstance(value, dict):
        raise ReleaseRefused(f"{name} is not a JSON object", where=str(folder))
    return value
