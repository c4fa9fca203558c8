"""The registry swept by schedule: what a kill or a hand left behind does not wait for the next release."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from trimtab.errors import Conflict
from trimtab.recipe import load_recipe
from trimtab.registry.allowance import allow
from trimtab.settings import Settings


@task(name="sweep", task_run_name="sweep the registry", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5)
def sweep_registry(recipe: str, home: str) -> list[str]:
    """What was found and done, one sentence each; a release that is running is left alone."""
    from trimtab.registry.connection import Registry  # MLflow takes two seconds to import; deploying needs it not
    from trimtab.registry.mend import mend

    settings, parsed = Settings.load(Path(home)).ensure_home(), load_recipe(recipe)
    registry = Registry.from_settings(settings)
    try:
        allow(registry.ledger, parsed.name, parsed.registry.allow_unverified, "sweep")
        done = mend(settings, registry, parsed.name)
    except Conflict as running:
        done = [f"left alone: {running.what}"]
    for line in done:
        get_run_logger().warning("registry: %s", line)
    return done
