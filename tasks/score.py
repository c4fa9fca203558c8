"""A batch's stages as tasks: score what is not durable yet, then let the output appear; and its run in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from tasks.artifacts import artifact_key
from tasks.edges import after, ended, quoted
from tasks.naming import untagged
from tasks.progress import Progress
from trimtab.settings import Settings

if TYPE_CHECKING:  # pyarrow and a runtime: not for whoever only deploys the flow
    from trimtab.scoring_batch.answering import Answering
    from trimtab.scoring_batch.batch import Batch
    from trimtab.scoring_batch.order import Order

SERVICE_S = 300.0
SERVICE_RETRIES = 8


def place_order(
    release: str,
    home: str,
    *,
    inputs: str,
    output: str,
    keys: Sequence[str],
    ignored: Sequence[str],
    batch_rows: int,
    on_error: str,
    journal: bool,
    through_service: bool,
    threads: int | None,
) -> Order:
    """What is to be scored, with the version that is meant now.

    Raises:
        RecipeError: an option that cannot be meant. RegistryError: no such release.
    """
    from trimtab.registry.reference import Reference, resolve
    from trimtab.scoring_batch.order import Order

    meant = Reference.parse(release)
    version = resolve(Settings.load(Path(home)).tracking_uri(), meant)
    get_run_logger().info("%s is version %d", meant, version)
    return Order(
        meant.name,
        version,
        Path(inputs).expanduser().resolve(),
        Path(output).expanduser().resolve(),
        tuple(keys),
        tuple(ignored),
        batch_rows,
        on_error,  # type: ignore[arg-type]  # checked by the order
        "service" if through_service else "journal" if journal else "nothing",
        threads,
    )


@contextmanager
def opened(order: Order, home: str, restart: bool) -> Iterator[Batch]:
    """The batch, its release verified and loaded, its output locked."""
    from trimtab.released import open_release
    from trimtab.scoring_batch.batch import open_batch

    settings = Settings.load(Path(home)).ensure_home()
    loaded, folder = open_release(settings, order.name, order.version, order.threads)
    with open_batch(order, loaded, folder, restart=restart) as batch:
        if batch.resumed:
            get_run_logger().info("%d of %d rows are there from before", batch.resumed, batch.dataset.rows)
        yield batch


@contextmanager
def scoring_run(batch: Batch, home: str) -> Iterator[str]:
    """The MLflow run of this batch, RUNNING inside the block; taken up again after a kill."""
    from trimtab.candidate import digest_of
    from trimtab.registry.tracking import Tracking

    settings, order = Settings.load(Path(home)), batch.order
    tracking = Tracking(settings.tracking_uri(), settings.locks)
    experiment = tracking.experiment(order.name)
    key = digest_of([batch.key, str(order.inputs), str(order.output)])[:32]
    params = {**order.said(), "inputs": str(order.inputs), "output": str(order.output), "rows": batch.dataset.rows}
    tags = {"trimtab.scored_version": str(order.version), "trimtab.flow_run": str(flow_run.get_id())}
    run_id = tracking.start_batch_run(experiment, key, f"score {order.inputs.name}", params, tags)
    digest = digest_of(batch.work.job["inputs"])
    profile = {"rows": batch.dataset.rows, "files": len(batch.dataset.sources)}
    tracking.log_dataset_input(
        run_id, order.inputs.name, digest, context="scoring", source=str(order.inputs), profile=profile
    )
    try:
        with untagged():
            yield run_id
    except BaseException:
        tracking.finish(run_id, "FAILED")
        raise
    tracking.finish(run_id)


def score_rows(batch: Batch, home: str) -> None:
    """Score every row that is not durable yet."""
    ended(batch, "score", score_parts(*quoted(batch, home), return_state=True))


def publish(batch: Batch, home: str, run_id: str) -> dict[str, Any]:
    """Let the output appear, and say in Prefect and MLflow what came of it."""
    state = publish_output(*quoted(batch, home, run_id), wait_for=after(batch, "score"), return_state=True)
    summary: dict[str, Any] = ended(batch, "publish", state)
    return summary


@task(name="score", task_run_name="score the rows", cache_policy=NO_CACHE)
def score_parts(batch: Batch, home: str) -> int:
    """Score part by part; how many rows are durable afterwards."""
    with closing(answering(batch, Settings.load(Path(home)))) as who, Progress(f"score {batch.order.name}") as progress:
        batch.score(who, progress)
    return batch.work.rows


@task(name="publish", task_run_name="publish the output", cache_policy=NO_CACHE)
def publish_output(batch: Batch, home: str, run_id: str) -> dict[str, Any]:
    """One file out of all parts; figures into MLflow, a page into Prefect."""
    from trimtab.registry.tracking import Tracking

    summary = batch.publish()
    settings = Settings.load(Path(home))
    figures = {"rows": float(summary.rows), "rows_without_answer": float(summary.bad)}
    tracking = Tracking(settings.tracking_uri(), settings.locks)
    tracking.log_metrics(run_id, figures)
    tracking.set_tags(run_id, {"trimtab.output_sha256": summary.sha256})
    create_markdown_artifact(
        key=artifact_key("score", summary.name), description=summary.output, markdown=in_words(summary.to_json())
    )
    get_run_logger().info("%s: %d rows, %d without an answer", summary.output, summary.rows, summary.bad)
    return {**summary.to_json(), "run_id": run_id}


def answering(batch: Batch, settings: Settings) -> Answering:
    """Who answers: the release here, with or without the journal, or the scoring service.

    Raises:
        Conflict: the service holds the journal, or serves another version. StateError: there is no service.
    """
    from trimtab.own_service import own_client
    from trimtab.scoring_batch.answering import Here, Journalled, Service

    loaded, keep = batch.loaded, batch.order.keep
    if keep == "service":
        return Service(loaded, own_client(settings, batch.order.name, SERVICE_S, SERVICE_RETRIES))
    return Journalled(loaded, settings) if keep == "journal" else Here(loaded)


def in_words(summary: dict[str, Any]) -> str:
    """The summary as Markdown."""
    examples = "\n".join(f"- {one}" for one in summary["examples"])
    bad = f"\n\n{summary['bad']} rows have no answer, e.g.\n\n{examples}" if summary["bad"] else ""
    return (
        f"# {summary['name']} version {summary['version']}\n\n{summary['rows']} rows in `{summary['output']}` "
        f"(SHA-256 {summary['sha256'][:12]}…){bad}\n"
    )
