"""Stage 6: alias and stage in one step of ours, with a record of who and why."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from tasks.edges import after, ended, quoted
from trimtab.registry.author import author
from trimtab.registry.connection import Registry
from trimtab.registry.promote import champion, reconcile
from trimtab.registry.promote import promote as move
from trimtab.workbench import Workbench


@task(
    name="promote", cache_policy=NO_CACHE, task_run_name="promote version {version}", retries=2, retry_delay_seconds=1
)
def promote_version(bench: Workbench, version: int, reason: str) -> int:
    """Settle what an earlier run left half-done, then make this version the champion if it is not already."""
    registry, name = Registry.from_settings(bench.settings), bench.recipe.name
    log = get_run_logger()
    for line in reconcile(registry, name):
        log.warning("registry: %s", line)
    serving = champion(registry, name)
    if serving is None or serving.version != version:
        move(registry, name, version, who=author(), why=reason, evidence={"flow_run": str(flow_run.get_id())})
        log.info("%s version %d is the champion", name, version)
    else:
        log.info("%s version %d is the champion already", name, version)
    return version


def promote(bench: Workbench, version: int, reason: str) -> int:
    """Make the version the champion: stage Production and alias `champion` together."""
    wait_for = after(bench, "register")
    state = promote_version(*quoted(bench, version, reason), wait_for=wait_for, return_state=True)
    done: int = ended(bench, "promote", state)
    return done
