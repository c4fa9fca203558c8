"""A reaction's stages: one at a time, checked against the ledger, approved, begun there, done, concluded there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import State

from tasks.artifacts import artifact_key
from tasks.audit import renew_audit
from tasks.events import EVENTS
from tasks.monitor import open_watch
from tasks.serve import stock_file, wait_for_version
from trimtab import reactions
from trimtab.errors import Conflict, RegistryError
from trimtab.monitoring.policy import Decision
from trimtab.registry.author import author
from trimtab.watch import Watch

__all__ = ["ask", "begin", "choose", "conclude", "open_watch", "reacting", "resumed", "roll_back", "why"]
CLICKED = "a click in the Prefect UI"


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


def resumed(watch: Watch, digest: str) -> bool:
    """Whether this run proposed the reaction itself and goes on now: somebody has resumed it, which is written down.

    Raises:
        StateError: that came too late, the proposal has expired.
    """
    here = str(flow_run.get_id())
    mine = [one for one in watch.book().proposals if one.run == here and one.decision.verdict_digest == digest]
    if mine and not mine[-1].approved:
        reactions.approve(watch.ledger, watch.name, digest, CLICKED)
    return bool(mine)


def choose(watch: Watch, digest: str) -> Decision:
    """What is to be done about a verdict now: taken up again if a kill cut it short, else decided afresh."""
    cut_short = watch.unfinished(digest)
    version = watch.done_already(cut_short) if cut_short is not None else None
    if cut_short is not None and version is not None:
        said = f"version {version} serves"
        watch.finish(cut_short, str(flow_run.get_id()), said, version)
        return Decision("none", f"done before a kill: {said}", digest)
    decision = cut_short or watch.decide(digest)
    get_run_logger().info("verdict %s: %s (%s)", digest[:12], decision.action, decision.reason)
    return decision


def why(watch: Watch, decision: Decision) -> str:
    """The reason of the release, as the promotion log keeps it, e.g. "retrain after drift+damage: accuracy fell …"."""
    kinds = [verdict.kind for verdict in watch.verdicts() if verdict.digest == decision.verdict_digest]
    return f"{decision.action} after {kinds[-1] if kinds else 'a verdict'}: {decision.reason}"


def ask(watch: Watch, decision: Decision) -> None:
    """The ledger first, then an alert that says what is proposed, how to agree and until when."""
    asked = sum(one.decision.episode == decision.episode for one in watch.book().proposals)
    watch.propose(decision, str(flow_run.get_id()))
    days = watch.recipe.monitoring.policy.proposal_expires_days
    how = f"agree with `trimtab approve {watch.name}`, or resume this flow run in the Prefect UI, within {days:g} days"
    tell(watch, decision, "proposal", f"{decision.action} is proposed ({how}): {decision.reason}", again=asked)
    create_markdown_artifact(
        key=artifact_key("proposal", watch.name),
        description=f"A reaction of {watch.name} that waits for a person",
        markdown=f"# {decision.action.capitalize()}?\n\n{decision.reason}\n\nTo {how}.\n",
    )


def begin(watch: Watch, decision: Decision) -> None:
    """The ledger first."""
    watch.begin(decision, str(flow_run.get_id()))


def roll_back(watch: Watch, decision: Decision) -> int | RegistryError:
    """Let serve again what served before, and see that it answers; the version, or why there is none.

    Raises:
        StateError: the service does not answer with it; a later run finds it done or goes on waiting.
    """
    from trimtab.registry.connection import Registry  # MLflow, which a retraining imports elsewhere, and later
    from trimtab.registry.promote import rollback

    bad = int(watch.verdict(decision.verdict_digest).version)
    evidence = {"verdict": decision.verdict_digest, "flow_run": str(flow_run.get_id())}
    registry = Registry.from_settings(watch.settings)
    reason = why(watch, decision)
    try:
        done = rollback(registry, watch.name, who=author(), why=reason, bad_version=bad, evidence=evidence)
    except RegistryError as error:
        return error
    if watch.settings.scoring_for(watch.name) is not None:
        wait_for_version.fn(watch.settings.home, watch.name, done.version, stock_file(watch.settings, watch.recipe))
    return done.version


def conclude(watch: Watch, decision: Decision, outcome: State[Any] | int | RegistryError) -> dict[str, Any]:
    """Write down how it ended; a release that was already running leaves the reaction owed, to be taken up again.

    Args:
        outcome: of the release flow, or the version that a rollback went back to, or why it could not.
    """
    made = isinstance(outcome, State)
    result: Any = outcome.result(raise_on_failure=False) if isinstance(outcome, State) else outcome
    if isinstance(result, Conflict):
        raise result
    if isinstance(result, BaseException):
        said = f"nothing was changed: {type(result).__name__}: {result}"
        _finish(watch, decision, said, None, None)
        raise result
    release: dict[str, Any] | None = result if made else None
    if release is not None and release["serving"] != release["version"]:
        version: int | None = None
        said = f"version {release['version']} is the challenger of version {release['serving']}"
    else:
        version = int(result["version"] if made else result)
        said = f"version {version} serves"
    _finish(watch, decision, said, version, release)
    tell(watch, decision, "reaction", f"{decision.action}: {said}; why: {decision.reason}")
    return {"action": decision.action, "outcome": said, "version": version, **({"release": release} if release else {})}


def tell(watch: Watch, decision: Decision, cause: str, reason: str, again: int = 0) -> None:
    """An alert about a reaction itself: one of each kind an episode, and one more for each time it is asked again."""
    key = f"{cause}-{decision.episode or decision.verdict_digest[:16]}"
    emit_event(
        event=EVENTS["alert"],
        resource={"prefect.resource.id": f"trimtab.release.{watch.name}", "prefect.resource.name": watch.name},
        payload={
            "verdict": decision.verdict_digest,
            "kind": cause,
            "action": "alert",
            "reason": reason,
            "cause": cause,
            "episode": f"{key}-{again}" if again else key,
        },
    )


def _finish(watch: Watch, decision: Decision, said: str, version: int | None, release: dict[str, Any] | None) -> None:
    watch.finish(decision, str(flow_run.get_id()), said, version, release)
    renew_audit(watch)
    create_markdown_artifact(
        key=artifact_key("reaction", watch.name),
        description=f"What followed from the verdict {decision.verdict_digest[:12]} on {watch.name}",
        markdown=in_words(decision, said, release or {}),
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
