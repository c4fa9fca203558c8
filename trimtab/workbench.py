"""What every stage of a release works with: recipe and code, data, folders, and what identifies them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trimtab import __version__
from trimtab.candidate import Candidate, Converted, InputsDigest, digest_of
from trimtab.data import REQUIRED, Array, Split, check_splits, classes_of, data_digest, from_arrays, load_split
from trimtab.errors import DataError
from trimtab.own_slices import load_slices, slices_digest
from trimtab.recipe import Recipe, UserCode
from trimtab.recompress import Recompress
from trimtab.remembered import Remembered
from trimtab.retrain import NewRows
from trimtab.runtime.availability import installed
from trimtab.settings import Settings
from trimtab.stopwatch import Stopwatch
from trimtab.store import file_digest, matches, os_lock, write_atomic
from trimtab.targets import TARGETS
from trimtab.task import Task
from trimtab.worker import ENVIRONMENTS

if TYPE_CHECKING:
    from torch import nn

    from trimtab.preprocess import Ask

DECIDING = ("torch", "lightning", "torch-pruning", "onnx", "onnxruntime", "openvino", "nncf")
METHODS = 5  # to be raised when a method gives another result for the same parameters: old candidates are not reused
EXAMPLE_ROWS = 4
LEAST_SMALLER = 0.01  # share by which a recompression for size must be smaller than the champion


class Workbench:
    """One release's inputs, read once and checked at the door.

    Args:
        recipe: path of the recipe file.
        settings: where things are.
        new_rows: labelled rows of the journal to train on besides the base data (a retrain), with a part held out.
        recompress: the champion's original is compressed anew; `new_rows` are then those it was trained on.
    """

    def __init__(
        self,
        recipe: Path | str,
        settings: Settings,
        new_rows: NewRows | None = None,
        recompress: Recompress | None = None,
    ) -> None:
        self.code = UserCode(recipe)
        self.recipe: Recipe = self.code.recipe
        self.settings = settings
        self.new_rows = new_rows
        self.recompress = recompress
        if recompress is not None and recompress.figure == "size":
            self.recipe = _smaller_than(self.recipe, recompress.size_ratio)
        self.stopwatch = Stopwatch()
        self.remembered = Remembered()

    @cached_property
    def splits(self) -> dict[str, Split]:
        """All splits a release reads: train and validation (with new rows), gate, the recipe's `also`, and `today`.

        Raises:
            DataError, UserCodeError: what the loader returned cannot be used.
        """
        names = [*REQUIRED, *self.recipe.verify.also]
        splits = {name: load_split(self.code, name) for name in names}
        check_splits(splits)
        self._check_calibration_rows(splits["train"])
        if self.new_rows is not None:
            _refuse_partial(self.new_rows.train, splits["train"])
            splits["train"] = splits["train"].joined(self.new_rows.train)
            splits["validation"] = splits["validation"].joined(self.new_rows.validation)
            splits["today"] = self.new_rows.held_out
        return splits

    @property
    def classes(self) -> int:
        """Number of classes: of the recipe's labels if given, else of the data."""
        found = classes_of(self.splits)
        labels = self.recipe.labels
        if labels is not None and found > len(labels):
            raise DataError(
                f"the data hold class {found - 1}, the recipe names {len(labels)} labels",
                where="labels",
                fix=f"name {found} labels, or correct the data",
            )
        return len(labels) if labels is not None else found

    @property
    def task(self) -> Task:
        """Classification or regression, and the metric."""
        return self.recipe.purpose

    @property
    def outputs(self) -> int:
        """Numbers a row that the model answers: logits, one a class; of regression as many as a label has."""
        return int(self.splits["train"].labels.shape[1]) if self.task.regression else self.classes

    @property
    def class_names(self) -> list[str]:
        """What each class is called where classes are slices: by the recipe, else "class 3"; none of regression."""
        if self.task.regression:
            return []
        return self.recipe.labels or [f"class {index}" for index in range(self.classes)]

    @cached_property
    def slices(self) -> dict[str, Array]:
        """The recipe's own slices of the gate split: name → bool (rows,).

        Raises:
            DataError, UserCodeError: what the callable returned cannot be used.
        """
        return load_slices(self.code, self.splits["gate"], self.class_names)

    def validation_slices(self) -> dict[str, Array]:
        """The recipe's own slices of the validation split, for the choice among candidates; rows of the journal that
        joined it on a retrain are in none.

        Raises:
            DataError, UserCodeError: what the callable returned for "validation" cannot be used.
        """
        split = self.splits["validation"]
        joined = 0 if self.new_rows is None else len(self.new_rows.validation)
        base = len(split) - joined
        rows = {name: values[:base] for name, values in split.inputs.items()}
        found = load_slices(self.code, from_arrays(split.name, rows, split.labels[:base]), self.class_names)
        return {name: np.concatenate([mask, np.zeros(joined, bool)]) for name, mask in found.items()}

    @property
    def example(self) -> dict[str, Array]:
        """The first training rows, as exporters take them: name → (4, ...)."""
        return {name: values[:EXAMPLE_ROWS] for name, values in self.splits["train"].inputs.items()}

    @cached_property
    def inputs(self) -> InputsDigest:
        """What decides a candidate besides its lineage."""
        weights = self.recipe.model.weights
        return InputsDigest(
            data=data_digest(self.splits),
            weights=file_digest(self.code.folder / weights) if weights else "none",
            code=digest_of([self.code.digest(), self.recipe.model.identity(), self.recipe.preprocess.model_dump()]),
            versions=digest_of(
                {
                    **{"trimtab": __version__, "methods": METHODS},
                    **{name: installed(name) for name in DECIDING},
                    **self._of_targets(),
                    **({} if self.recipe.convert.opset is None else {"opset": self.recipe.convert.opset}),
                }
            ),
        )

    def _of_targets(self) -> dict[str, Any]:
        """Versions of what only some targets are converted with or run on."""
        entries = [TARGETS[name] for name in self.recipe.targets]
        here = {name for entry in entries for name in (*entry.loads_with, *entry.converts_with)}
        workers = {name for entry in entries for name in (entry.convert_worker, entry.load_worker) if name}
        return {
            **{name: installed(name) for name in sorted(here - set(DECIDING))},
            **{f"{name} worker": list(ENVIRONMENTS[name].pinned) for name in sorted(workers)},
        }

    @property
    def key(self) -> str:
        """Digest of everything a stage result depends on besides its own arguments."""
        recipe = self.recipe.identity()
        parts = [recipe, vars(self.inputs)]
        if self.recompress is not None:  # measured anew, whatever an earlier release measured
            parts.append({"recompress": self.recompress.verdict})
        return digest_of([*parts, slices_digest(self.slices)] if self.slices else parts)[:16]

    def build(self, **overrides: Any) -> nn.Module:
        """A fresh model from the user's callable, its weights as the callable left them.

        Args:
            overrides: keyword arguments of the callable, merged over the recipe's.
        """
        from trimtab.modes import mark_resting

        return mark_resting(self.code.build_model(**overrides))

    @cached_property
    def forward(self) -> Ask:
        """(module, raw inputs) → logits (n, classes), or numbers (n, k): pre-processing, the user's module."""
        from trimtab.preprocess import Ask

        return Ask(self.recipe.preprocess, self.task.regression, self.recipe.outputs)

    @cached_property
    def further(self) -> list[dict[str, Any]]:
        """Outputs kept beside the one that decides, as in spec.json: those of the model as the recipe builds it.

        Raises:
            ModelError: one cannot be kept.
        """
        if not self.recipe.outputs.also:
            return []
        from trimtab.further import further_of

        return further_of(self.forward, self.build().eval(), self.example, self.recipe.axes)

    def folder(self, candidate: str) -> Path:
        """Where a candidate's files lie."""
        return self.settings.store / candidate

    def target_folder(self, candidate: str, target: str) -> Path:
        """Where a candidate converted to a target lies."""
        return self.settings.store / f"{candidate}.{target}"

    def keep(self, candidate: Candidate) -> Candidate:
        """Write the candidate's record beside its files, which are already in place."""
        write_atomic(self.folder(candidate.id + ".json"), json.dumps(candidate.to_json(), indent=1).encode())
        return candidate

    def stored(self, candidate: str) -> Candidate | None:
        """A candidate made earlier, if its record is there and its files are the ones the record names."""
        record = self.folder(candidate + ".json")
        if not record.is_file():
            return None
        found = Candidate.from_json(json.loads(record.read_text()))
        return found if matches(self.folder(candidate), found.files) else None

    def keep_converted(self, converted: Converted) -> Converted:
        """Write the record of a conversion beside its files."""
        path = self.folder(f"{converted.candidate}.{converted.target}.json")
        write_atomic(path, json.dumps(converted.to_json(), indent=1).encode())
        return converted

    def stored_converted(self, candidate: str, target: str) -> Converted | None:
        """A conversion made earlier, if its files are still the ones its record names."""
        record = self.folder(f"{candidate}.{target}.json")
        if not record.is_file():
            return None
        found = Converted.from_json(json.loads(record.read_text()))
        return found if matches(self.target_folder(candidate, target), found.files) else None

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """One release of a name at a time on this state directory.

        Raises:
            Conflict: another one is running.
        """
        lock = self.settings.locks / f"release-{self.recipe.name}.lock"
        with os_lock(lock, wait=False, what=f"a release of {self.recipe.name}"):
            yield

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Latency is measured one at a time on a host."""
        with os_lock(self.settings.locks / "measure.lock", wait=True, what="a measurement"):
            yield

    def _check_calibration_rows(self, train: Split) -> None:
        for section in ("quantize", "quantize_openvino"):
            settings = getattr(self.recipe.compress, section)
            if settings is not None and len(train) < settings.minimum_rows:
                raise DataError(
                    f"{len(train)} training rows, INT8 calibration wants at least {settings.minimum_rows}",
                    where=f"compress.{section}.minimum_rows",
                    fix=f"give more rows, lower minimum_rows, or set compress.{section} to null",
                )


def _refuse_partial(journalled: Split, base: Split) -> None:
    """Nothing can be trained on a part of the inputs, on their descriptors or on hashes of them."""
    absent = [name for name in base.inputs if name not in journalled.inputs]
    if absent:
        raise DataError(
            f"the journal does not hold {', '.join(absent)}: a retrain cannot learn from these rows",
            where="serving.journal",
            fix="keep every input as it is (inputs: full or sample, nothing redacted or hashed), or retrain by hand",
        )
    for name, values in base.inputs.items():
        if journalled.inputs[name].shape[1:] != values.shape[1:]:
            raise DataError(
                f"rows of {name!r} are {journalled.inputs[name].shape[1:]} in the journal, {values.shape[1:]} in the "
                "data: a retrain wants one size",
                where="inputs",
                fix="let requests be padded to the size of the data, or retrain by hand",
            )


def _smaller_than(recipe: Recipe, size_ratio: float) -> Recipe:
    """The recipe with a budget that only what is smaller than the champion meets."""
    least = max(recipe.budget.min_size_ratio, size_ratio * (1 + LEAST_SMALLER))
    return recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"min_size_ratio": least})})
