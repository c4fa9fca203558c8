"""`make run`: start the servers, walk the whole loop on digits, print what came of it. Everything stays up after."""

from __future__ import annotations

import sys
import threading
import time

from rich.console import Console

from deployments.cli.waiting import Waiting
from deployments.environment import PACKAGE_ROOT, apply
from deployments.stack import Stack, up
from trimtab.errors import TrimtabError
from trimtab.settings import Settings

RECIPE = PACKAGE_ROOT / "examples" / "digits" / "recipe.yaml"
NAME = "digits"
console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """Run it; the last line is one JSON object. Exit code: that of the error, 0 when all went well."""
    begin = time.monotonic()
    try:
        stack = start(Settings.load())
        apply(stack.settings)
        from deployments.demo.loop import Loop  # imports Prefect, which reads its settings at import
        from deployments.demo.summary import show

        loop = Loop(stack.settings, RECIPE, console, begin)
        loop.release()
        up(stack.settings, Waiting(console), release=NAME)  # the worker, which the watch needs, and the Evidently UI
        loop.watch_it()
        show(loop)
    except TrimtabError as error:
        console.print(f"[red]{type(error).__name__}[/red]")
        console.print(str(error), markup=False)
        console.print("the servers stay up for a look; stop them with: make down")
        sys.exit(error.exit_code)


def start(settings: Settings) -> Stack:
    """The servers; what the loop needs is imported meanwhile."""
    console.print(f"[bold]servers[/bold]  state in {settings.home}")
    warm = threading.Thread(target=_import_heavy, daemon=True)
    warm.start()
    stack = up(settings, Waiting(console), release=NAME, wait_for_all=False)
    warm.join()
    if stack.reused:
        console.print("  running already: reused")
    known = stack.settings
    console.print(f"  ready in {stack.total_s:.1f} s: Prefect {ui(known)}, MLflow {known.mlflow_tracking_uri}, ", end="")
    console.print(f"scoring {known.scoring[NAME]}; the worker and Evidently {known.evidently_url} follow")
    return stack


def ui(settings: Settings) -> str:
    """Address of the Prefect UI."""
    return (settings.prefect_api_url or "").removesuffix("/api")


def _import_heavy() -> None:
    """Libraries that read no address at import; Prefect is not among them."""
    import lightning  # noqa: F401
    import torch  # noqa: F401

    from trimtab.compress import make  # noqa: F401
