"""Training on Lightning: in memory, by seed, stopped early on the validation loss, best weights restored.

Lightning runs the loop (optimizer step, schedule, clipping); what it would write, print or log is switched off in
`_trainer`, the one place where it is configured. Data stay in tensors and a batch is one slice of them: a DataLoader
that collates row by row costs several times the step of a small network.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from trimtab.data import Split
from trimtab.errors import ModelError
from trimtab.optimize.predicting import Forward, predict
from trimtab.optimize.seeding import seeded
from trimtab.recipe.schema import Train

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
Progress = Callable[[int, int, dict[str, float]], None]
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


@dataclass(frozen=True)
class Fit:
    """What a training did.

    Attributes:
        epochs_run: epochs trained, fewer than asked when it stopped early.
        best_epoch: epoch (from 1) whose weights the model now has.
        history: a dict an epoch: epoch, train_loss, validation_loss, validation_accuracy, lr.
    """

    epochs_run: int
    best_epoch: int
    history: list[dict[str, float]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return asdict(self)


def fit(
    model: nn.Module,
    train: Split,
    validation: Split,
    settings: Train,
    *,
    forward: Forward,
    loss: Loss | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Train `model` in place and leave it in evaluation mode with the weights of its best validation epoch.

    Args:
        forward: (module, name → tensor (n, ...)) → logits (n, classes); it decides about pre-processing.
        loss: (logits, labels (n,), indices of the rows in `train` (n,)) → scalar; cross-entropy by default. The
            validation loss is always cross-entropy.
        progress: called after every epoch with (epoch from 1, epochs, the epoch's figures); what it raises ends
            the training.

    The same seed, data and number of torch threads give bit-identical weights. Global random states are untouched,
    no file is left, and it may be called from any thread.

    Raises:
        ModelError: the loss is not finite, or the logits do not fit the labels.
    """
    _check_classes(model, train, validation, forward)
    tensors = _tensors(validation), torch.from_numpy(validation.labels)
    judge = _Judge(model, forward, tensors, settings, progress)
    with (
        seeded(settings.seed, settings.threads),
        _silent_lightning(),
        tempfile.TemporaryDirectory(prefix="trimtab-fit-") as folder,
    ):
        module = _Module(model, tuple(train.inputs), forward, loss or _cross_entropy, settings)
        _trainer(settings, judge, folder).fit(module, _batches(train, settings))
    return judge.finish()


def _trainer(settings: Train, judge: pl.Callback, folder: str) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=settings.epochs,
        gradient_clip_val=settings.clip_norm,
        callbacks=[judge],
        # Barebones: no checkpoints, logger, progress bar, summary or sanity check, and no per-step bookkeeping.
        barebones=True,
        default_root_dir=folder,
        # Named, so that the cluster variables of a SLURM or torchrun job around us are not read.
        plugins=[LightningEnvironment()],
    )


@contextlib.contextmanager
def _silent_lightning() -> Iterator[None]:
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


class _Module(pl.LightningModule):
    """The user's module as Lightning wants it."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], forward: Forward, loss: Loss, settings: Train) -> None:
        super().__init__()
        self.model, self.names, self.logits_of, self.loss, self.settings = model, names, forward, loss, settings
        self.total, self.rows = torch.zeros(()), 0

    def on_train_epoch_start(self) -> None:
        self.total, self.rows = torch.zeros(()), 0

    def training_step(self, batch: list[Tensor], _index: int) -> Tensor:
        *values, labels, rows = batch
        logits = self.logits_of(self.model, dict(zip(self.names, values, strict=True)))
        loss = self.loss(logits, labels, rows)
        # No .item() here: the sum is read once an epoch.
        self.total = self.total + loss.detach() * len(labels)
        self.rows += len(labels)
        return loss

    def mean_loss(self) -> float:
        """Mean training loss a row of the epoch so far."""
        return float(self.total) / max(self.rows, 1)

    def configure_optimizers(self) -> Any:
        settings = self.settings
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        extra = {"momentum": 0.9} if settings.optimizer == "sgd" else {}
        optimizer = OPTIMIZERS[settings.optimizer](
            parameters, lr=settings.lr, weight_decay=settings.weight_decay, **extra
        )
        if settings.schedule == "constant":
            return optimizer
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings.epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


class _Judge(pl.Callback):
    """After each epoch: validate, keep the best weights, stop when patience is over."""

    def __init__(
        self,
        model: nn.Module,
        forward: Forward,
        validation: tuple[dict[str, Tensor], Tensor],
        settings: Train,
        progress: Progress | None,
    ) -> None:
        self.model, self.forward, self.settings, self.progress = model, forward, settings, progress
        self.inputs, self.labels = validation
        self.history: list[dict[str, float]] = []
        self.best_loss, self.best_epoch = math.inf, 0
        self.best_weights: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, _Module)
        logits = predict(self.model, self.inputs, self.forward)
        epoch = len(self.history) + 1
        figures = {
            "epoch": float(epoch),
            "train_loss": pl_module.mean_loss(),
            "validation_loss": float(F.cross_entropy(logits, self.labels)),
            "validation_accuracy": float((logits.argmax(1) == self.labels).float().mean()),
            "lr": float(trainer.optimizers[0].param_groups[0]["lr"]),
        }
        self._check_finite(figures)
        self.history.append(figures)
        if figures["validation_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = figures["validation_loss"], epoch
            self.best_weights = copy.deepcopy(self.model.state_dict())
        if epoch - self.best_epoch >= self.settings.patience:
            trainer.should_stop = True
        if self.progress:
            self.progress(epoch, self.settings.epochs, figures)

    def finish(self) -> Fit:
        self.model.load_state_dict(self.best_weights)
        self.model.zero_grad(set_to_none=True)
        self.model.eval()
        return Fit(len(self.history), self.best_epoch, self.history)

    def _check_finite(self, figures: dict[str, float]) -> None:
        for key in ("train_loss", "validation_loss"):
            if not math.isfinite(figures[key]):
                raise ModelError(
                    f"{key.replace('_', ' ')} is {figures[key]} in epoch {figures['epoch']:.0f}: training diverged",
                    where=type(self.model).__name__,
                    fix=f"lower train.lr (it is {self.settings.lr}), set train.clip_norm, or scale the inputs",
                )


def _batches(split: Split, settings: Train) -> DataLoader:
    rows = len(split)
    dataset = TensorDataset(*_tensors(split).values(), torch.from_numpy(split.labels), torch.arange(rows))
    # A last batch of one row would stop batch norm ("more than 1 value per channel"): it is left out.
    alone = rows % settings.batch_size == 1 and rows > settings.batch_size
    order = RandomSampler(dataset, generator=torch.Generator().manual_seed(settings.seed))
    # batch_size=None: the sampler yields a list of rows and TensorDataset takes them in one slice.
    return DataLoader(
        dataset,
        sampler=BatchSampler(order, settings.batch_size, drop_last=alone),
        batch_size=None,
        num_workers=0,
    )


def _tensors(split: Split) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in split.inputs.items()}


def _cross_entropy(logits: Tensor, labels: Tensor, _rows: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels)


def _check_classes(model: nn.Module, train: Split, validation: Split, forward: Forward) -> None:
    few = {name: torch.from_numpy(values[:2].copy()) for name, values in train.inputs.items()}
    classes = predict(model, few, forward).shape[1]
    largest = max(int(split.labels.max()) for split in (train, validation))
    if largest >= classes:
        raise ModelError(
            f"the model gives {classes} logits, but the labels go up to {largest}",
            where=type(model).__name__,
            fix=f"build it with {largest + 1} classes or more",
        )
