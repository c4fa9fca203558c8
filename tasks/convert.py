"""Stage 3: each candidate to each target that can carry it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from prefect import task
from prefect.logging import get_run_logger

from tasks.caching import JSON_RESULT, content_key
from tasks.edges import after, ended, quoted
from tasks.progress import Progress
from trimtab.candidate import Candidate, Converted
from trimtab.compress.convert_candidate import convert_candidate, precision_of
from trimtab.compress.search.for_int8 import carrying
from trimtab.convert import carries
from trimtab.recipe.schema import Target
from trimtab.workbench import Workbench


@task(
    name="convert",
    task_run_name="convert {label} to all targets",
    cache_key_fn=content_key("convert"),
    **JSON_RESULT,
)
def convert_one(bench: Workbench, candidate: dict[str, Any], targets: list[str], label: str) -> list[dict[str, Any]]:
    """Convert one candidate to the targets, each once."""
    done = []
    with Progress(f"converting {label}") as progress:
        for index, target in enumerate(targets):
            found = bench.stored_converted(candidate["id"], target)
            done.append(found or bench.keep_converted(convert_candidate(bench, Candidate.from_json(candidate), target)))
            progress(index + 1, len(targets), target)
    return [converted.to_json() for converted in done]


def convert(
    bench: Workbench,
    candidates: list[Candidate],
    targets: Sequence[Target],
    unwanted: Collection[tuple[str, str]] = (),
) -> list[Converted]:
    """Every candidate on every target that carries its precision; what a target cannot carry is said before.

    Args:
        unwanted: (precision, target) that are left out: the search has measured, and said, that another is better. It
            has not measured INT8 that keeps layers in float, which is therefore not left out.
    """
    result: list[Converted] = []
    precisions = list(dict.fromkeys(precision_of(candidate) for candidate in candidates))
    for target in targets:
        if left_out := [precision for precision in precisions if not carries(target, precision)]:
            get_run_logger().info("%s does not carry %s: it does not get those candidates", target, left_out)
    for candidate in candidates:
        own, mixed = precision_of(candidate), candidate.lineage[-1].parameters.get("max_drop") is not None
        able = [t for t in carrying(candidate.lineage, own, targets) if mixed or (own, t) not in unwanted]
        here = all(bench.stored_converted(candidate.id, target) for target in able)
        fresh = convert_one.with_options(refresh_cache=not here)
        arguments = quoted(bench, candidate.to_json(), able, candidate.label)
        state = fresh(*arguments, wait_for=after(bench, candidate.id), return_state=True)
        result += [Converted.from_json(value) for value in ended(bench, f"convert {candidate.id}", state)]
    return result
