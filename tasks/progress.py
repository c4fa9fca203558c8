"""Progress that can be seen: Prefect progress artifacts and a line in the run's log, at most one every two seconds."""

from __future__ import annotations

import time
from types import TracebackType

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

LEAST_SECONDS = 2.0


class Progress:
    """A progress bar of the running task in the Prefect UI; call it with (done, total, what)."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.started = self.last = time.monotonic()
        self.log = get_run_logger()

    def __enter__(self) -> Progress:
        self.artifact = create_progress_artifact(progress=0.0, description=self.title)
        return self

    def __call__(self, done: int, total: int, what: str = "") -> None:
        now = time.monotonic()
        if now - self.last < LEAST_SECONDS and done < total:
            return
        self.last = now
        share = 100.0 * done / max(total, 1)
        update_progress_artifact(self.artifact, progress=min(share, 100.0))  # type: ignore[arg-type]
        self.log.info("%s: %d of %d %s", self.title, done, total, what)

    def epoch(self, done: int, total: int, figures: dict[str, float]) -> None:
        """One epoch of a training."""
        if "validation_rmse" in figures:
            metric = f"RMSE {figures['validation_rmse']:.4g}, loss {figures['validation_loss']:.4g}"
        else:
            metric = f"accuracy {figures['validation_accuracy']:.1%}, loss {figures['validation_loss']:.3f}"
        self(done, total, f"epochs, validation {metric}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            update_progress_artifact(self.artifact, progress=100.0)  # type: ignore[arg-type]
            self.log.info("%s: done in %.1f s", self.title, time.monotonic() - self.started)
