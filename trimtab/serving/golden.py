"""The golden rows of a release, with the answers that were recorded for them: what every predictor of it must give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trimtab.errors import StateError

Array = np.ndarray
WARM_CALLS = 3
# Largest difference from the recorded probabilities, of numbers as a share of the largest recorded one: another CPU may
# add in another order (FP32), or round an accumulator to the neighbouring step (INT8).
TOLERANCE = {
    **dict.fromkeys(("fp32", "fp16", "clustered", "sparse"), 1e-3),
    **dict.fromkeys(("int8", "int8-dynamic", "int8-nncf", "int8-xnnpack", "int8-litert"), 5e-2),
}


class Predictor(Protocol):
    """What runs a model: as in `trimtab.runtime`."""

    spec: dict[str, Any]
    reentrant: bool

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for inputs name → array (batch, ...)."""


class ReleaseRefused(StateError):
    """A release that must not serve: changed, not loadable, or it does not answer as it did when it was verified."""


@dataclass(frozen=True)
class Golden:
    """Rows and recorded answers.

    Attributes:
        rows: input name → (n, ...). recorded: (n, classes) or (n, k). output: what the answer is called.
        relative: whether differences are shares of the largest recorded number, as of regression.
        further: of outputs beside the answer, name → (n, ...); differences are shares of the largest number.
        tolerance: largest difference. folder: the release's, for messages.
    """

    rows: Mapping[str, Array]
    recorded: Array
    output: str
    relative: bool
    tolerance: float
    folder: Path
    further: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, output: str, relative: bool, tolerance: float) -> Golden:
        """Of a release folder.

        Raises:
            OSError, ValueError, KeyError: there are none, or they are none.
        """
        with np.load(folder / "golden.npz", allow_pickle=False) as archive:
            sides = {side: _below(archive, f"{side}/") for side in ("inputs", "outputs")}
        recorded = sides["outputs"].pop(output)
        return cls(sides["inputs"], recorded, output, relative, tolerance, folder, sides["outputs"])

    @property
    def one(self) -> dict[str, Array]:
        """The first row alone."""
        return {name: values[:1] for name, values in self.rows.items()}

    def prove(self, predictor: Predictor) -> None:
        """Warm the predictor and compare its answers with the recorded ones.

        Raises:
            ReleaseRefused: they differ by more than is allowed.
        """
        for _ in range(WARM_CALLS):
            predictor.predict(self.one)
        answers = predictor.predict(self.rows)
        scale = np.abs(self.recorded).max(axis=0) if self.relative else np.ones(self.recorded.shape[1])
        self._compare("answers", answers[self.output], self.recorded, scale)
        for name, recorded in self.further.items():
            if name not in answers:
                raise ReleaseRefused(f"golden rows: there is no output {name!r}", where=str(self.folder))
            self._compare(f"output {name!r}: answers", answers[name], recorded, np.abs(recorded).max(initial=0))

    def _compare(self, what: str, answered: Array, recorded: Array, scale: Array) -> None:
        if answered.shape != recorded.shape or not np.isfinite(answered).all():
            raise ReleaseRefused(
                f"golden rows: {what} {answered.shape} for the recorded {recorded.shape}, or not finite",
                where=str(self.folder),
            )
        difference = float((np.abs(answered - recorded) / np.where(scale > 0, scale, 1.0)).max(initial=0))
        if difference > self.tolerance:
            raise ReleaseRefused(
                f"golden rows: {what} differ from the recorded ones by up to {difference:.3g}, "
                f"allowed {self.tolerance:g}",
                where=str(self.folder),
                fix="serve it on a machine like the one that verified it, or release it again on this one",
            )


def _below(archive: Any, start: str) -> dict[str, Array]:
    return {name.removeprefix(start): archive[name] for name in archive.files if name.startswith(start)}
