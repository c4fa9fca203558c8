"""What is asked: random 32x32 images of a ten-class model, one or eight a request, as JSON or as raw float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np

INPUT, OUTPUT, SHAPE, CLASSES = "input", "probabilities", (3, 32, 32), 10
BATCHES, BODIES = (1, 8), 4
CELLS = tuple(f"{kind}_b{batch}" for kind in ("json", "binary") for batch in BATCHES)


def batch_of(cell: str) -> int:
    """Rows of each request of a cell."""
    return int(cell.partition("_b")[2])


def bodies(folder: Path, cell: str) -> list[Path]:
    """The request bodies of a cell."""
    return [folder / "bodies" / f"{cell}-{number}" for number in range(BODIES)]


def answer_file(folder: Path, batch: int, number: int) -> Path:
    """Where the runtime's answer to a body is."""
    return folder / "bodies" / f"answer_b{batch}-{number}.npy"


def answers(folder: Path, cell: str) -> list[np.ndarray]:
    """What the runtime says to each body of a cell: (rows, classes) each."""
    return [np.load(answer_file(folder, batch_of(cell), number)) for number in range(BODIES)]
