"""After each epoch: validate, keep the best weights, tell the schedule, stop when patience is over."""

from __future__ import annotations

import copy
import math

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from trimtab.data import Split
from trimtab.optimize.batches import tensors
from trimtab.optimize.loop import TrainingModule
from trimtab.optimize.predicting import Forward, predict
from trimtab.optimize.record import Fit, Progress, check_finite, validation_figures
from trimtab.optimize.weighting import weights_of
from trimtab.recipe.schema import Train


class Judge(pl.Callback):
    """Judges a model on validation after every epoch.

    Args:
        judged: the module whose weights are judged and kept: the trained one, or its moving average.
    """

    def __init__(
        self, judged: nn.Module, forward: Forward, validation: Split, settings: Train, progress: Progress | None
    ) -> None:
        self.judged, self.forward, self.settings, self.progress = judged, forward, settings, progress
        self.inputs, self.labels = tensors(validation), torch.from_numpy(validation.labels)
        self.weights = weights_of(validation)
        self.history: list[dict[str, float]] = []
        self.best_loss, self.best_epoch = math.inf, 0
        self.best_weights: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        epoch = len(self.history) + 1
        figures = {
            "epoch": float(epoch),
            "train_loss": pl_module.mean_loss(),
            **validation_figures(predict(self.judged, self.inputs, self.forward), self.labels, self.weights),
            "lr": pl_module.rate,
        }
        self._check_finite(figures)
        self.history.append(figures)
        if figures["validation_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = figures["validation_loss"], epoch
            self.best_weights = copy.deepcopy(self.judged.state_dict())
        if epoch - self.best_epoch >= self.settings.patience:
            trainer.should_stop = True
        pl_module.schedule.after_epoch(figures["validation_loss"])
        if self.progress:
            self.progress(epoch, self.settings.epochs, figures)

    def finish(self, model: nn.Module) -> Fit:
        """Put the best weights into `model`, in evaluation mode."""
        model.load_state_dict(self.best_weights)
        model.zero_grad(set_to_none=True)
        model.eval()
        return Fit(len(self.history), self.best_epoch, self.history)

    def _check_finite(self, figures: dict[str, float]) -> None:
        fix = f"lower train.lr (it is {self.settings.lr}), set train.clip_norm, or scale the inputs"
        check_finite(figures, type(self.judged).__name__, fix)
