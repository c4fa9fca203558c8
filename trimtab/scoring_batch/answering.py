"""Who answers a batch: the release's predictor here, with or without a journal, or the scoring service.

Rows of a batch are journalled as one request, named after the run and the first row's place in the dataset. So a run
that goes on after a kill finds what it wrote: a request is one record of the journal, there whole or not at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from trimtab.client import ModelFailed, Refused, ScoringClient
from trimtab.errors import Conflict, DataError, StateError, TrimtabError
from trimtab.journal.salt import salt
from trimtab.journal.wal import Journal
from trimtab.serving.keeping import Keeper
from trimtab.serving.metrics import Metrics
from trimtab.serving.recording import Recorder
from trimtab.serving.release import Loaded
from trimtab.settings import Settings

Array = np.ndarray
Inputs = Mapping[str, Array]
SLOW_DISK_S = 60.0


class NoAnswer(TrimtabError):
    """The model has no answer to these rows; it is not known which of them is to blame."""


class Answering(Protocol):
    """Answers rows, once they are kept where they are to be kept."""

    def answer(self, inputs: Inputs, request_id: str) -> Array:
        """Float (rows, classes) or (rows, k).

        Raises:
            NoAnswer: the model failed, or what it answered is not finite.
        """

    def close(self) -> None:
        """Release what is held."""


class Here:
    """The predictor, in this process."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    def answer(self, inputs: Inputs, request_id: str) -> Array:
        """As `Answering.answer`."""
        try:
            found = self.loaded.predictor.predict(inputs)
            output = found[self.loaded.output]
        except Exception as error:  # a runtime raises whatever it likes; the rows were sound
            raise NoAnswer(f"the model failed ({type(error).__name__}: {error})") from error
        rows = len(next(iter(inputs.values())))
        if output.ndim != 2 or len(output) != rows:
            raise NoAnswer(f"the model answered {output.shape} to {rows} rows")
        if not np.isfinite(output).all():
            raise NoAnswer("the model's answer is not finite")
        return output

    def close(self) -> None:
        """Nothing is held."""


class Journalled:
    """The predictor here, and every answered row in the release's journal, through the service's own recorder.

    Args:
        settings: names the journal, which one process at a time writes.

    Raises:
        Conflict: the scoring service writes it.
    """

    def __init__(self, loaded: Loaded, settings: Settings) -> None:
        self._here = Here(loaded)
        try:
            self._journal = Journal(settings.journal / loaded.name)
        except Conflict as error:
            raise Conflict(
                "the journal is written by another process, most likely the scoring service",
                where=error.where,
                fix="let the service answer and journal the rows: --through-service; or stop it first",
            ) from None
        # A part that is done is not answered again, also after a power cut.
        keeper = Keeper(lambda: salt(settings.journal_salt))
        self._recorder = Recorder(self._journal, Metrics(), keeper, SLOW_DISK_S, synced=True)
        self._loop = asyncio.Runner()

    def answer(self, inputs: Inputs, request_id: str) -> Array:
        """As `Answering.answer`; returns when the rows are durable, and writes none that are there already.

        Raises:
            StateError: the journal cannot take them.
        """
        loaded, begin = self._here.loaded, time.perf_counter()
        known = self._journal.holds(request_id, 0)
        try:
            output = self._here.answer(inputs, request_id)
        except NoAnswer as error:
            if not known and len(next(iter(inputs.values()))) == 1:
                kind = type(error.__cause__).__name__ if error.__cause__ else "NotFinite"
                latency = time.perf_counter() - begin
                self._kept(self._loop.run(self._recorder.failed(loaded, request_id, inputs, kind, latency)))
            raise
        if not known:
            latency = time.perf_counter() - begin
            self._kept(self._loop.run(self._recorder.answered(loaded, request_id, inputs, output, latency)))
        return output

    def close(self) -> None:
        """Close the journal; what was appended is durable already."""
        self._loop.close()
        self._journal.close()

    def _kept(self, outcome: str) -> None:
        if outcome != "durable":
            raise StateError(
                "the journal cannot take the rows",
                where=self._here.loaded.name,
                fix="free space on the state directory's disk, then start the run again: it goes on where it was",
            )


class Service:
    """The scoring service answers and journals; only where it serves the very version that is asked for.

    Args:
        client: of the service; closed with this, or when the service cannot be used.

    Raises:
        Conflict: it serves another one. ScoringError: it cannot be asked.
    """

    def __init__(self, loaded: Loaded, client: ScoringClient) -> None:
        self._loaded, self._client = loaded, client
        try:
            self._check(self._client.version().version)
        except BaseException:
            self._client.close()
            raise

    def answer(self, inputs: Inputs, request_id: str) -> Array:
        """As `Answering.answer`.

        Raises:
            Conflict: another version answered. DataError: the service does not take so many rows at once. StateError:
                it could not journal them. ScoringError: it could not be asked.
        """
        try:
            found = self._client.predict(inputs, request_id=request_id, alias="champion")
        except ModelFailed as error:
            raise NoAnswer("the model failed in the service, whose log says how") from error
        except Refused as error:
            if error.status == 413:
                raise DataError(error.message, where=error.where, fix="give fewer --batch-rows") from None
            raise
        self._check(found.version)
        if found.journal == "shed":
            raise StateError(
                "the service answered and could not journal the rows",
                where=self._loaded.name,
                fix="read its log, then start the run again: it goes on where it was",
            )
        output = found.outputs.get(self._loaded.output)
        rows = len(next(iter(inputs.values())))
        if output is None or output.ndim != 2 or len(output) != rows:
            raise StateError("the service's answer has another form than the release's", where=self._loaded.name)
        return output

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _check(self, version: str | None) -> None:
        if version != self._loaded.version:
            raise Conflict(
                f"the service answers with version {version}, not {self._loaded.version}",
                where=self._loaded.name,
                fix="score what it serves (--alias champion), or score here, without --through-service",
            )
