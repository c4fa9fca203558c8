"""Making candidates: each a task run of its own, made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from prefect import task
from prefect.logging import get_run_logger

from tasks.caching import JSON_RESULT, content_key
from tasks.edges import after, ended, quoted
from tasks.progress import Progress
from trimtab.candidate import Candidate, Step
from trimtab.compress.make import make, planned
from trimtab.errors import UnsupportedError
from trimtab.workbench import Workbench


@task(
    name="compress",
    task_run_name="compress {label}",
    cache_key_fn=content_key("compress"),
    **JSON_RESULT,
)
def make_candidate(
    bench: Workbench, original: dict[str, Any], steps: list[dict[str, Any]], label: str
) -> dict[str, Any]:
    """Apply the steps to the original; the figures that come back are the achieved ones."""
    base = Candidate.from_json(original)
    parsed = [Step(**step) for step in steps]
    done = bench.stored(planned(base, parsed).id)
    if done is None:
        with Progress(label) as progress, bench.stopwatch.on("training"):
            done = bench.keep(make(bench, base, parsed, progress.epoch))
    return done.to_json()


def made(bench: Workbench, original: Candidate, steps: Sequence[Step], *waiting_for: str) -> Candidate | None:
    """The candidate of these steps; None, with a line in the log that says why, where a method cannot do it.

    Args:
        waiting_for: steps of this flow run it follows from; the original by default.
    """
    if not steps:
        return original
    candidate = planned(original, steps)
    fresh = make_candidate.with_options(refresh_cache=bench.stored(candidate.id) is None)
    arguments = quoted(bench, original.to_json(), [asdict(step) for step in steps], candidate.label)
    state = fresh(*arguments, wait_for=after(bench, *(waiting_for or (original.id,))), return_state=True)
    try:
        return Candidate.from_json(ended(bench, candidate.id, state))
    except UnsupportedError as error:
        get_run_logger().warning("%s left out: %s", candidate.label, error)
        return None
