"""Stage 7: the scoring service answers with the new version."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.edges import after, ended, quoted
from trimtab.asking import scoring_client
from trimtab.errors import StateError
from trimtab.recipe import Recipe
from trimtab.settings import Settings
from trimtab.workbench import Workbench

PATIENCE_S = 60.0
ASK_S = 5.0


@task(name="serve", cache_policy=NO_CACHE, task_run_name="serve version {version}", retries=2, retry_delay_seconds=2)
def wait_for_version(home: Path, name: str, version: int, stock: Path | None = None) -> None:
    """Wait until the service says that it answers with this version.

    Args:
        home: the state directory, where address and token are found.
        stock: the file in which the version is written when stock `mlflow models serve` serves it.

    Raises:
        StateError: it does not within a minute; the message carries what it says of itself. Or it is not known.
    """
    with scoring_client(Settings.load(home), name, timeout_s=ASK_S) as service:
        _await_version(service, name, version, stock)


def _await_version(service: httpx.Client, name: str, version: int, stock: Path | None) -> None:
    said = "no answer"
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            answer = json.loads(stock.read_text()) if stock else service.get("/version").json()
            if str(answer.get("version")) == str(version):
                return
            said = str(answer)
        except (httpx.HTTPError, OSError, ValueError) as error:
            said = f"{type(error).__name__}: {error}"
        time.sleep(0.2)
    raise StateError(
        f"does not answer with version {version} after {PATIENCE_S:.0f} s: {said}",
        where=f"{service.base_url} ({name})",
        fix="see the scoring service's log (`trimtab status` names it); the version before keeps serving",
    )


def stock_file(settings: Settings, recipe: Recipe) -> Path | None:
    """Where the stock server's version is written down; None for our own service, which can be asked."""
    return settings.home / "stock" / f"{recipe.name}.json" if recipe.serving.backend == "mlflow" else None


def serve(bench: Workbench, version: int) -> str | None:
    """See that the new champion is what answers; without a service for this name, say so and go on."""
    url = bench.settings.scoring_for(bench.recipe.name)
    if url is None:
        get_run_logger().warning(
            "%s version %d is the champion; nothing serves it here yet: trimtab serve RECIPE",
            bench.recipe.name,
            version,
        )
        return None
    arguments = quoted(bench.settings.home, bench.recipe.name, version, stock_file(bench.settings, bench.recipe))
    ended(bench, "serve", wait_for_version(*arguments, wait_for=after(bench, "promote"), return_state=True))
    get_run_logger().info("%s answers with version %d", url, version)
    return url
