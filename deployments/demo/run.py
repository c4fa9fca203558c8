"""`make run`: start the servers, walk the whole loop on digits, print what came of it. Everything stays up after."""

from __future__ import annotations

import sys
import threading
import time

from rich.console import Console

from deployments.cli.waiting import Waiting
from deployments.environment import PACKAGE_ROOT, apply
from deployments.stack import Stack, up
from trimtab.errors import StateError, TrimtabError
from trimtab.settings import Settings

RECIPE = PACKAGE_ROOT / "examples" / "digits" / "recipe.yaml"
NAME = "digits"
console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """Run it; the last line is one JSON object. Exit code: that of the error, 0 when all went well."""
    begin = time.monotonic()
    try:
        stack = start(Settings.load())
        from deployments.demo.loop import Loop
        from deployments.demo.summary import show

        loop = Loop(stack.settings, RECIPE, console, begin)
        loop.release()
        up(
            stack.settings, Waiting(console, brief=True), release=NAME
        )  # the worker, which the watch needs, and the Evidently UI
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
    imports: list[threading.Thread] = []

    def placed(known: Settings) -> None:
        if imports:
            raise StateError("somebody took a port while the servers started", fix="run it again")
        apply(known)
        imports.append(threading.Thread(target=_import_all, daemon=True))
        imports[0].start()

    stack = up(settings, Waiting(console), release=NAME, wait_for_all=False, placed=placed)
    imports[0].join()
    if stack.reused:
        console.print("  running already: reused")
    known = stack.settings
    console.print(
        f"  ready in {stack.total_s:.1f} s: Prefect {ui(known)}, MLflow {known.mlflow_tracking_uri}, ", end=""
    )
    console.print(f"scoring {known.scoring[NAME]}; the worker and Evidently {known.evidently_url} follow")
    return stack


def ui(settings: Settings) -> str:
    """Address of the Prefect UI."""
    return (settings.prefect_api_url or "").removesuffix("/api")


def _import_all() -> None:
    """What a release needs, Prefect among it, which reads its settings at import."""
    from deployments.demo import loop, summary  # noqa: F401
    from tasks import stages  # noqa: F401
    from trimtab.convert import onnx_format, openvino_format  # noqa: F401
