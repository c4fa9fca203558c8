"""Stage 6: alias and stage in one step of ours, with a record of who and why; first a trial, if the recipe says so."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from tasks.edges import after, ended, quoted
from trimtab.registry.author import author
from trimtab.registry.challenge import challenge
from trimtab.registry.connection import Registry
from trimtab.registry.evidence import Unproven
from trimtab.registry.promote import champion, reconcile
from trimtab.registry.promote import promote as move
from trimtab.workbench import Workbench


@task(
    name="promote", cache_policy=NO_CACHE, task_run_name="promote version {version}", retries=2, retry_delay_seconds=1
)
def promote_version(bench: Workbench, version: int, reason: str) -> int:
    """Settle what an earlier run left half-done, then make this version the champion if it is not already.

    Returns:
        What serves: the version before, where this one has yet to show what `serving.promotion` asks for. It is the
        challenger then.
    """
    registry, name = Registry.from_settings(bench.settings), bench.recipe.name
    log = get_run_logger()
    for line in reconcile(registry, name):
        log.warning("registry: %s", line)
    serving = champion(registry, name)
    if serving is not None and serving.version == version:
        log.info("%s version %d is the champion already", name, version)
        return version
    try:
        move(registry, name, version, who=author(), why=reason, evidence={"flow_run": str(flow_run.get_id())})
    except Unproven as error:
        challenge(registry, name, version, who=author(), why=reason)
        log.warning("%s version %d is the challenger: it %s", name, version, error.what)
        return serving.version if serving is not None else version
    log.info("%s version %d is the champion", name, version)
    return version


def promote(bench: Workbench, version: int, reason: str) -> int:
    """Make the version the champion, stage Production and alias `champion` together, or the challenger; what serves."""
    wait_for = after(bench, "register")
    state = promote_version(*quoted(bench, version, reason), wait_for=wait_for, return_state=True)
    done: int = ended(bench, "promote", state)
    return done
