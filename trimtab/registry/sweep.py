"""Clear away what dead releases left in MLflow; nothing that was finished, and nothing that is not ours."""

from __future__ import annotations

from collections.abc import Container

from mlflow.entities import LoggedModelStatus, Run

from trimtab.registry import versions
from trimtab.registry.alias import aliases
from trimtab.registry.connection import PARENT_RUN, RELEASE_KEY, Registry, mlflow_errors
from trimtab.registry.names import release_name
from trimtab.registry.retention import finish


def sweep(registry: Registry, experiment: str, name: str, alive: Container[str], *, orphans: bool = False) -> list[str]:
    """End runs of dead releases, delete models that were never finished, and versions nobody vouches for.

    Args:
        experiment: experiment id.
        name: release name.
        alive: release keys (tag of the parent run) of releases that are running now.
        orphans: also delete whole models that no version is made of; the same release would take one up.

    Returns:
        What was done, one sentence each.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with mlflow_errors(f"sweep {name}"):
        done = _runs(registry, experiment, alive)
        # Whoever registers holds this lock, so what is half-made here has no maker any more.
        with registry.lock("register", release_name(name)):
            done += finish(registry, name)
            return [*done, *_versions(registry, name), *_models(registry, experiment, name, orphans)]


def _runs(registry: Registry, experiment: str, alive: Container[str]) -> list[str]:
    running = _running(registry, experiment)
    lives = {run.info.run_id for run in running if run.data.tags.get(RELEASE_KEY) in alive}
    done = []
    for run in running:
        tags = run.data.tags
        ours = RELEASE_KEY in tags or PARENT_RUN in tags
        if ours and run.info.run_id not in lives and tags.get(PARENT_RUN) not in lives:
            registry.client.set_terminated(run.info.run_id, "KILLED")
            done.append(f"run {run.info.run_name} ({run.info.run_id}) of a dead release: KILLED")
    return done


def _running(registry: Registry, experiment: str) -> list[Run]:
    found: list[Run] = []
    token = None
    while True:
        page = registry.client.search_runs([experiment], "attributes.status = 'RUNNING'", page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _models(registry: Registry, experiment: str, name: str, orphans: bool) -> list[str]:
    done = []
    for model in versions.logged_models(registry.client, experiment, name):
        ready = model.status == LoggedModelStatus.READY
        if (ready and not orphans) or versions.is_used(registry.client, model.model_id):
            continue
        freed = versions.discard_model(registry, model)
        why = "belongs to no version" if ready else "was never finished"
        done.append(f"logged model {model.model_id} {why}: deleted, {freed} bytes")
    return done


def _versions(registry: Registry, name: str) -> list[str]:
    """Versions with our tag that the ledger does not know, that have no alias and no stage."""
    known = versions.recorded(registry.ledger, name)
    pointed_at = set(aliases(registry.client, name).values())
    done = []
    for version in versions.every(registry.client, name):
        number = int(version.version)
        if number in known or RELEASE_KEY not in version.tags:
            continue
        if number in pointed_at or version.current_stage != "None":
            done.append(f"version {number} has no record of having passed the gate, but is in use: left as it is")
            continue
        registry.client.delete_model_version(name, version.version)
        done.append(f"version {number} was never finished: deleted")
    return done
