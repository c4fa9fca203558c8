"""Calls of the model: for one request, or for several that share it; what is not an answer is a ModelFailure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from trimtab.serving.failures import ModelFailure, Unwanted, kind_of
from trimtab.serving.patience import Patience
from trimtab.serving.release import Loaded

Array = np.ndarray
Form = tuple[tuple[str, str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said of one request.

    Attributes:
        outputs: name → (rows of the request, ...). seconds: of the call.
    """

    outputs: Mapping[str, Array]
    seconds: float


@dataclass(eq=False, slots=True)
class Job:
    """One request between reading and writing.

    Attributes:
        inputs: name → (rows, ...), checked. patience: whether it is still wanted.
        settle: told the outcome, once, on any thread.
        after: called when all requests of its call were told, on the model's thread: whether that has nothing else to
            do, and may take its time.
        rows: how many.
    """

    inputs: Mapping[str, Array]
    patience: Patience
    settle: Callable[[Answer | ModelFailure | Unwanted], None]
    after: Callable[[bool], None] | None = None
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.rows = len(next(iter(self.inputs.values())))

    @property
    def form(self) -> Form:
        """Names, dtypes and shapes of a row, which requests must have in common to share a call."""
        return tuple((name, values.dtype.str, values.shape[1:]) for name, values in sorted(self.inputs.items()))


def ask(loaded: Loaded, inputs: Mapping[str, Array]) -> Answer:
    """Call the model.

    Raises:
        ModelFailure: it raised, or its answer has another number of rows or is not finite.
    """
    rows = len(next(iter(inputs.values())))
    begin = time.perf_counter()
    try:
        outputs = loaded.predictor.predict(inputs)
        seconds = time.perf_counter() - begin
        fault = _fault(outputs, loaded.output, rows)
    except BaseException as error:  # a runtime raises whatever it likes; the request was sound, so it is the model's
        raise ModelFailure(kind_of(error), inputs) from error
    if fault:
        raise ModelFailure(fault, inputs)
    return Answer(outputs, seconds)


def _fault(outputs: Mapping[str, Array], name: str, rows: int) -> str:
    output = outputs[name]
    if output.ndim != 2 or len(output) != rows:
        return "WrongShape"
    return "" if all(np.isfinite(values).all() for values in outputs.values()) else "NotFinite"


def ask_together(loaded: Loaded, jobs: Sequence[Job]) -> list[Answer]:
    """Call the model once for several requests of one form; each gets its own rows.

    Raises:
        ModelFailure: the call failed; which request is to blame, if any, shows when each has a call of its own.
    """
    try:
        inputs = {name: np.concatenate([job.inputs[name] for job in jobs]) for name in jobs[0].inputs}
    except Exception as error:  # out of memory
        raise ModelFailure(type(error).__name__, {}) from error
    answer = ask(loaded, inputs)
    total = sum(job.rows for job in jobs)
    if any(values.ndim < 1 or len(values) != total for values in answer.outputs.values()):
        raise ModelFailure("WrongShape", inputs)
    answers, start = [], 0
    for job in jobs:
        end = start + job.rows
        answers.append(Answer({name: values[start:end] for name, values in answer.outputs.items()}, answer.seconds))
        start = end
    return answers
