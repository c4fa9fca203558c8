"""What a training leaves on record: the figures of an epoch and the whole of a fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from trimtab.errors import ModelError
from trimtab.optimize.losses import plain_loss

Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class Fit:
    """What a training did.

    Attributes:
        epochs_run: epochs trained, fewer than asked when it stopped early.
        best_epoch: epoch (from 1) whose weights the model now has.
        history: a dict an epoch: epoch, train_loss, validation_loss, validation_accuracy (of regression
            validation_rmse and validation_mae), and lr, the rate of the epoch (absent where the user's own function
            trained).
    """

    epochs_run: int
    best_epoch: int
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def validation_accuracy(self) -> float:
        """Of the epoch whose weights the model now has."""
        return self.best["validation_accuracy"]

    @property
    def best(self) -> dict[str, float]:
        """What validation said of the epoch whose weights the model now has, its loss apart."""
        kept = next(one for one in self.history if one["epoch"] == self.best_epoch)
        return {key: value for key, value in kept.items() if key.startswith("validation_") and key != "validation_loss"}

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return asdict(self)


def validation_figures(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> dict[str, float]:
    """Plain cross-entropy and accuracy, whatever loss was trained on; of numbers the squared error, RMSE and MAE.

    Args:
        logits: float (n, classes), or numbers (n, k). labels: int64 (n,), or float32 (n, k).
        weights: (n,), with a mean of 1; the loss alone heeds them, since it says when to stop.
    """
    loss = float(plain_loss(logits, labels, weights))
    if labels.is_floating_point():
        return {
            "validation_loss": loss,
            "validation_rmse": math.sqrt(float(plain_loss(logits, labels))),
            "validation_mae": float((logits - labels).abs().mean()),
        }
    return {"validation_loss": loss, "validation_accuracy": float((logits.argmax(1) == labels).float().mean())}


def check_finite(figures: dict[str, float], where: str, fix: str) -> None:
    """Refuse an epoch whose loss is NaN or infinite.

    Raises:
        ModelError: naming the loss and the epoch.
    """
    for key in ("train_loss", "validation_loss"):
        if not math.isfinite(figures[key]):
            raise ModelError(
                f"{key.replace('_', ' ')} is {figures[key]} in epoch {figures['epoch']:.0f}: training diverged",
                where=where,
                fix=fix,
            )
