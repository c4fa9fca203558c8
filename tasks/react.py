"""A reaction's stages: one at a time, checked against the ledger, begun there, concluded there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import State

from tasks.artifacts import artifact_key
from tasks.monitor import open_watch
from trimtab.errors import Conflict
from trimtab.monitoring.policy import Decision
from trimtab.watch import Watch

__all__ = ["begin", "choose", "conclude", "open_watch", "reacting", "why"]


@contextmanager
def reacting(watch: Watch) -> Iterator[bool]:
    """One reaction of a name at a time: whether this one is it. What it leaves undone, the schedule takes up."""
    with ExitStack() as held:
        try:
            held.enter_context(watch.reacting())
            alone = True
        except Conflict as other:
            get_run_logger().info("%s", other)
            alone = False
        yield alone


def choose(watch: Watch, digest: str) -> Decision:
    """What is to be done about a verdict now: taken up again if a kill cut it short, else decided afresh."""
    cut_short = watch.unfinished(digest)
    version = watch.done_already(digest) if cut_short is not None else None
    if cut_short is not None and version is not None:
        said = f"version {version} serves"
        watch.finish(cut_short, str(flow_run.get_id()), said)
        return Decision("none", f"done before a kill: {said}", digest)
    decision = cut_short or watch.decide(digest)
    get_run_logger().info("verdict %s: %s (%s)", digest[:12], decision.action, decision.reason)
    return decision


def why(watch: Watch, decision: Decision) -> str:
    """The reason of the release, as the promotion log keeps it, e.g. "retrain after drift+damage: accuracy fell …"."""
    kinds = [verdict.kind for verdict in watch.verdicts() if verdict.digest == decision.verdict_digest]
    return f"retrain after {kinds[-1] if kinds else 'a verdict'}: {decision.reason}"


def begin(watch: Watch, decision: Decision) -> None:
    """The ledger first."""
    watch.begin(decision, str(flow_run.get_id()))


def conclude(watch: Watch, decision: Decision, outcome: State[Any]) -> dict[str, Any]:
    """Write down how it ended; a release that was already running leaves the reaction owed, to be taken up again."""
    result = outcome.result(raise_on_failure=False)
    if isinstance(result, Conflict):
        raise result
    run = str(flow_run.get_id())
    if isinstance(result, BaseException):
        said = f"{type(result).__name__}: {result}"
        watch.finish(decision, run, said)
        _artifact(watch, decision, said, {})
        raise result
    serves = result["serving"] == result["version"]
    said = f"version {result['version']} " + (
        "serves" if serves else f"is the challenger of version {result['serving']}"
    )
    watch.finish(decision, run, said, result)
    _artifact(watch, decision, said, result)
    return {"action": decision.action, "outcome": said, "release": result}


def _artifact(watch: Watch, decision: Decision, said: str, release: Mapping[str, Any]) -> None:
    create_markdown_artifact(
        key=artifact_key("reaction", watch.name),
        description=f"What followed from the verdict {decision.verdict_digest[:12]} on {watch.name}",
        markdown=in_words(decision, said, release),
    )


def in_words(decision: Decision, said: str, release: Mapping[str, Any]) -> str:
    """The reaction as Markdown: why, how it ended, and links to the release it made.

    Args:
        release: the summary of the release; empty when none was made.
    """
    titles = {"run_url": "run in MLflow", "report_url": "verification report"}
    links = " · ".join(f"[{title}]({release[key]})" for key, title in titles.items() if release.get(key))
    return (
        f"# {decision.action.capitalize()}: {said}\n\nWhy: {decision.reason}\n\n"
        + (f"{links}\n\n" if links else "")
        + f"Verdict `{decision.verdict_digest}`\n"
    )
