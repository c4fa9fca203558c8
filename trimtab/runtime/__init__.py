"""Runtimes: one file a runtime, numpy and that runtime only; verification, serving and every release use the same file.

`load` gives a Predictor for a converted folder; `bundle` gives its file as the self-contained loader of a release.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab.runtime.availability import refuse_unavailable
from trimtab.runtime.bundling import bundle, requirements
from trimtab.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from trimtab.runtime.door import Array

    class Predictor(Protocol):
        """What can execute a candidate on a target, batch first."""

        spec: dict[str, Any]
        reentrant: bool

        def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            """Outputs by name for inputs name → array (batch, ...)."""


__all__ = ["TARGETS", "bundle", "load", "requirements"]


def load(target: str, folder: Path, threads: int) -> Predictor:
    """The predictor of a converted folder.

    Raises:
        ValueError: the target is unknown. UnsupportedError: this machine cannot run it. StateError: it runs in a
            worker environment, which cannot be made.
    """
    if target not in TARGETS:
        raise ValueError(f"unknown target {target!r}; one of {sorted(TARGETS)}")
    refuse_unavailable(target, converting=False)
    if TARGETS[target].load_worker:
        from trimtab.runtime import remote

        return remote.Predictor.load(target, folder, threads)
    module = import_module(f"trimtab.runtime.{TARGETS[target].runtime}")
    predictor: Predictor = module.Predictor.load(folder, threads)
    return predictor
