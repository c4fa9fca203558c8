"""The training loop is Lightning's: here its module and its trainer, with all it would write, print or log off."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn

from trimtab.data import Split
from trimtab.optimize.augmenting import Augment, generator_for
from trimtab.optimize.averaging import MovingAverage
from trimtab.optimize.batches import Batch, batch_size, rows_an_epoch
from trimtab.optimize.layout import with_channels_last
from trimtab.optimize.losses import Loss
from trimtab.optimize.optimizers import optimizer_for
from trimtab.optimize.precision import lightning_precision
from trimtab.optimize.predicting import Forward
from trimtab.optimize.schedules import Schedule, schedule_for
from trimtab.recipe.schema import Train


def trainer_for(settings: Train, judge: pl.Callback, folder: str) -> pl.Trainer:
    """A trainer on the CPU that leaves nothing behind but in `folder`.

    Raises:
        UnsupportedError: the CPU has no bf16.
    """
    by_value = settings.clip_value is not None
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=settings.epochs,
        precision=lightning_precision(settings.precision),
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip_value if by_value else settings.clip_norm,
        gradient_clip_algorithm="value" if by_value else "norm",
        callbacks=[judge],
        # Barebones: no checkpoints, logger, progress bar, summary or sanity check, and no per-step bookkeeping.
        barebones=True,
        default_root_dir=folder,
        # Named, so that the cluster variables of a SLURM or torchrun job around us are not read.
        plugins=[LightningEnvironment()],
    )


@contextlib.contextmanager
def silent_lightning() -> Iterator[None]:
    """Lightning's notes and warnings (tips, deactivated features, worker counts) off for the block."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class TrainingModule(pl.LightningModule):
    """The user's module as Lightning wants it.

    Args:
        average: updated after each optimizer step; None: no average.
        augment: changes each training batch; None: batches are as the split has them.
        channels_last: whether inputs of 4 axes are given with channels last.

    Attributes:
        schedule: moves the learning rate; whoever judges an epoch tells it the validation loss.
        rate: of the latest step.
    """

    schedule: Schedule
    rate: float

    def __init__(
        self,
        model: nn.Module,
        train: Split,
        forward: Forward,
        loss: Loss,
        settings: Train,
        average: MovingAverage | None,
        augment: Augment | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.names, self.logits_of, self.loss = model, tuple(train.inputs), forward, loss
        self.settings, self.average = settings, average
        self.augment, self.generator = augment, generator_for(settings.seed)
        self.channels_last = channels_last
        self.batch_size, self.rows_an_epoch = batch_size(train, settings), rows_an_epoch(train, settings)
        self.total, self.rows = torch.zeros(()), 0

    def on_train_epoch_start(self) -> None:
        self.total, self.rows = torch.zeros(()), 0

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        *values, labels, rows = batch
        inputs = dict(zip(self.names, values, strict=True))
        if self.augment is not None:
            inputs = self.augment(inputs, self.generator)
        if self.channels_last:
            inputs = with_channels_last(inputs)
        logits = self.logits_of(self.model, inputs)
        if self.settings.precision == "bf16":
            logits = logits.float()
        loss = self.loss(logits, Batch(inputs, labels, rows))
        # No .item() here: the sum is read once an epoch.
        self.total = self.total + loss.detach() * len(labels)
        self.rows += len(labels)
        return loss if self.settings.accumulate == 1 else loss * self._share(index, len(labels))

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.rate = float(optimizer.param_groups[0]["lr"])
        self.schedule.after_step()
        if self.average is not None:
            self.average.update(self.model)

    def mean_loss(self) -> float:
        """Mean training loss a row of the epoch so far."""
        return float(self.total) / max(self.rows, 1)

    def configure_optimizers(self) -> Any:
        optimizer = optimizer_for(self.settings, [p for p in self.model.parameters() if p.requires_grad])
        steps = math.ceil(self.rows_an_epoch / (self.batch_size * self.settings.accumulate))
        self.schedule = schedule_for(optimizer, self.settings, steps)
        return optimizer

    def _share(self, index: int, rows: int) -> float:
        """What undoes Lightning's division by `accumulate`, so that a step is on the mean over its rows.

        The last step of an epoch may have fewer batches, and its last batch fewer rows.
        """
        size, accumulate = self.batch_size, self.settings.accumulate
        before = index // accumulate * accumulate * size
        return accumulate * rows / min(accumulate * size, self.rows_an_epoch - before)
