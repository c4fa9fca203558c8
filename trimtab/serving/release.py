"""A release folder becomes something that answers: verified, loaded, warmed, proven and timed on its golden rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trimtab import runtime
from trimtab.errors import StateError
from trimtab.runtime.child import Child
from trimtab.serving.golden import TOLERANCE, Golden, Predictor, ReleaseRefused
from trimtab.serving.keeping import Keeping
from trimtab.serving.limits import Limits
from trimtab.serving.placing import Load, Model, placed
from trimtab.serving.plan import Plan
from trimtab.serving.pool import Pool
from trimtab.store import folder_digests
from trimtab.task import PREDICTION, PROBABILITIES

Array = np.ndarray
_KEEPING_FIX = "correct serving.journal in the recipe, then `trimtab up RECIPE`"


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
    def pool(self) -> Pool | None:
        """Its worker processes; None where the model runs in this one."""
        return self.predictor if isinstance(self.predictor, Pool) else None

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
    processes: str | int | None = None,
) -> Loaded:
    """Load a release, or refuse it.

    Args:
        folder: the release folder.
        version: what it is registered as.
        check: raises unless every file is as the manifest says.
        load: gives the predictor of (target, folder, threads).
        threads: instead of the release's own `serving.threads`.
        keeping: what the journal keeps, instead of the release's own `serving.journal`.
        processes: a number or "auto", instead of the release's own `serving.processes`.

    Raises:
        ReleaseRefused: with the reason; nothing of it stays behind.
    """
    try:
        check(folder)
        facts = _object(folder, "release.json")
        section = facts.get("serving", {})
        limits = Limits.from_json(section if processes is None else {**section, "processes": processes})
        limits = replace(limits, threads=threads or limits.threads, keeping=keeping or limits.keeping)
        regression = facts.get("task") == "regression"
        _ = int(facts["outputs" if regression else "classes"])  # a label could not be checked without it
        output, tolerance = PREDICTION if regression else PROBABILITIES, TOLERANCE[facts["precision"]]
        golden = Golden.read(folder, output, regression, tolerance)

        def accept(predictor: Predictor) -> None:
            if misfit := limits.keeping.misfit(predictor.spec["inputs"]):
                where, what = str(folder), f"version {version}: serving.journal: {misfit}"
                raise ReleaseRefused(what, where=where, fix=_KEEPING_FIX)
            golden.prove(predictor)

        def start(target: str, folder: Path, threads: int) -> Child:
            check(folder)  # it may be started again long after the release was loaded
            return Child(target, folder, threads)

        predictor, plan = placed(Model(facts["target"], folder, golden, accept, load, start), limits)
        example = golden.one if limits.keeping == Keeping() else _zeros(golden.one)
        loaded = Loaded(str(facts["name"]), version, predictor, limits, facts, time.time_ns(), example, plan)
    except ReleaseRefused:
        raise
    except Exception as error:  # a runtime raises whatever it likes on a bad file
        reason = str(error) if isinstance(error, StateError) else f"{type(error).__name__}: {error}"
        raise ReleaseRefused(f"version {version} cannot be loaded: {reason}", where=str(folder)) from error
    return loaded


def _zeros(rows: Mapping[str, Array]) -> dict[str, Array]:
    """Rows of the same form that say nothing: where the journal keeps no inputs, a page must not show one either."""
    return {name: np.zeros_like(values) for name, values in rows.items()}


def _object(folder: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads((folder / name).read_bytes())
    except (OSError, ValueError) as error:
        raise ReleaseRefused(f"{name} cannot be read ({type(error).__name__})", where=str(folder)) from None
    if not isinstance(value, dict):
        raise ReleaseRefused(f"{name} is not a JSON object", where=str(folder))
    return value
