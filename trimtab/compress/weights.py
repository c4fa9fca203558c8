"""A torch candidate on disk: safetensors plus the history of what was cut from the model the user's code builds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from trimtab.compress.replay import Cut, History, replay
from trimtab.errors import ModelError
from trimtab.store import file_digest
from trimtab.weights import load_weights, save_weights

WEIGHTS_FILE = "weights.safetensors"
HISTORY_FILE = "pruning.json"


def save_candidate(model: nn.Module, history: Sequence[Cut], folder: Path) -> dict[str, str]:
    """Write weights.safetensors and pruning.json into an existing folder.

    The bytes depend on the values alone, so the same candidate has the same digests everywhere.

    Returns:
        File name → SHA-256.

    Raises:
        ModelError: the state dict holds something that is not a tensor.
    """
    save_weights(model, folder / WEIGHTS_FILE)
    (folder / HISTORY_FILE).write_text(json.dumps(list(history), separators=(",", ":")))
    return {name: file_digest(folder / name) for name in (HISTORY_FILE, WEIGHTS_FILE)}


def history_of(folder: Path) -> History:
    """What was cut to make a candidate.

    Raises:
        ModelError: the file is missing or damaged.
    """
    path = Path(folder) / HISTORY_FILE
    try:
        history: History = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(path), fix="make the candidate again") from None
    return history


def load_candidate(build: Callable[[], nn.Module], folder: Path) -> nn.Module:
    """Build the unpruned model, cut it as recorded, load the weights; in evaluation mode.

    Raises:
        ModelError: the history or the weights do not fit what `build` returns, or a file is missing or damaged.
    """
    history = history_of(folder)
    return load_weights(replay(build(), history), Path(folder) / WEIGHTS_FILE).eval()
