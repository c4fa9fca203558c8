"""Why a release answers rows as it does: occlusion, by its own predictor, as at the gate (`verify.attribution`).

The training rows are not in a release. What stands in a part that is taken away is usual in the release's reference
rows, where its columns are kept one by one (tables of up to 64 columns), else in its few golden rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.monitoring.profile import read_reference
from trimtab.registry.package import REFERENCE, read_golden
from trimtab.serving.release import Loaded
from trimtab.verify.attribution.occlusion import ROWS_A_CALL, log_odds, number, occlusion
from trimtab.verify.attribution.regions import divide, usual

Array = np.ndarray


@dataclass(frozen=True)
class Explanation:
    """What each part of each row speaks for its answer.

    Attributes:
        unit: of an attribution: "log-odds" of the decided class against all others, or "prediction".
        instead: what stood in a part that was taken away, in words.
        parts: names of the parts of a row.
        decided: of each row the class that was given, or which of a regression's numbers is explained (the first).
        labels: names of the decided classes, or None. answers: of each row the decided class's probability, or the
            number. attributions: rows × parts; positive speaks for the class, or adds to the number.
    """

    name: str
    version: str
    unit: str
    instead: str
    parts: tuple[str, ...]
    decided: tuple[int, ...]
    labels: tuple[str, ...] | None
    answers: tuple[float, ...]
    attributions: tuple[tuple[float, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return {"method": "occlusion", **asdict(self)}


def explain(
    loaded: Loaded, folder: Path, inputs: Mapping[str, Array], columns: Sequence[str] | None = None
) -> Explanation:
    """Explain rows.

    Args:
        folder: of the release. inputs: name → array (n, ...), as the model takes them.
        columns: names of the parts, where each part is one column of a table.

    Raises:
        UnsupportedError: an input has more axes than an image.
    """
    layout = divide(inputs)
    output = loaded.predictor.predict(inputs)[loaded.output]
    numbers = loaded.regression
    decided = np.zeros(len(output), np.int64) if numbers else output.argmax(axis=1)
    replacement, instead = _usual(folder, inputs)
    alone = loaded.facts.get("precision") == "int8-dynamic"  # which scales its activations by the whole batch
    worth = number if numbers else log_odds
    found = occlusion(loaded.predictor, inputs, decided, layout, replacement, 1 if alone else ROWS_A_CALL, worth)
    parts = [region.name if len(inputs) == 1 else f"{region.input}: {region.name}" for region in layout.regions]
    names = loaded.facts.get("labels")
    return Explanation(
        loaded.name,
        loaded.version,
        "prediction" if numbers else "log-odds",
        instead,
        tuple(columns) if columns is not None and len(columns) == len(parts) else tuple(parts),
        tuple(decided.tolist()),
        tuple(str(names[index]) for index in decided) if names and not numbers else None,
        tuple(float(value) for value in output[np.arange(len(output)), decided]),
        tuple(tuple(row) for row in found.tolist()),
    )


def _usual(folder: Path, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], str]:
    """What is usual of each input, one row; and from which rows that was taken."""
    golden = read_golden(folder).inputs
    kept = read_reference(folder / REFERENCE) if (folder / REFERENCE).exists() else {}
    rows = {name: _reference(name, golden[name], kept) for name in inputs}
    fewest = min(len(values) for values in rows.values())
    return usual(rows), f"the usual value of {fewest} rows of the release"


def _reference(name: str, golden: Array, kept: Mapping[str, Array]) -> Array:
    """Reference rows of an input where its columns are kept one by one, else the golden rows."""
    columns = [f"{name}[{index}]" for index in range(int(np.prod(golden.shape[1:])))]
    if not set(columns) <= set(kept):
        return golden
    table = np.stack([kept[column] for column in columns], axis=1)
    return table.reshape(-1, *golden.shape[1:]).astype(golden.dtype)
