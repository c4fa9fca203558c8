"""A registered release over a Parquet dataset: order → score → publish; started again, it goes on where it was."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from prefect import flow

from tasks.leftovers import crash_dead_runs
from tasks.naming import described, run_name
from tasks.score import opened, place_order, publish, score_rows, scoring_run


@flow(name="score", flow_run_name=run_name("score {release}"), log_prints=False)
def score(
    release: Annotated[str, described("NAME, NAME@alias or NAME/version.")],
    home: Annotated[str, described("State directory of the stack.")],
    inputs: Annotated[str, described("A Parquet file, or a folder of them.")],
    output: Annotated[str, described("The Parquet file that is made; it must not exist.")],
    keys: Annotated[list[str], described("Columns that are copied into the output.")] = [],  # noqa: B006
    ignored: Annotated[list[str], described("Columns that are no features.")] = [],  # noqa: B006
    batch_rows: Annotated[int, described("Rows a call of the model.")] = 1024,
    on_error: Annotated[Literal["fail", "null"], described("What a row does that cannot be scored.")] = "fail",
    journal: Annotated[bool, described("Whether the rows are journalled, and so watched.")] = False,
    through_service: Annotated[bool, described("Whether the scoring service answers and journals them.")] = False,
    threads: Annotated[int | None, described("Threads of the runtime; the release's own without it.")] = None,
    restart: Annotated[bool, described("Whether to throw away what an unfinished run did.")] = False,
) -> dict[str, Any]:
    """Score every row of a dataset with one version of a release."""
    order = place_order(
        release,
        home,
        inputs=inputs,
        output=output,
        keys=keys,
        ignored=ignored,
        batch_rows=batch_rows,
        on_error=on_error,
        journal=journal,
        through_service=through_service,
        threads=threads,
    )
    with opened(order, home, restart) as batch, scoring_run(batch, home) as run_id:
        crash_dead_runs("score", output, of="output")
        score_rows(batch, home)
        return publish(batch, home, run_id)
