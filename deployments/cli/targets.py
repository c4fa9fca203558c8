"""`trimtab targets`: what a candidate can be converted to, what carries compression, and what is installed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.output import AsJson, Home, console, emit, errors, settings_for
from trimtab.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from trimtab.runtime.matrix import Row


def targets(
    make: Annotated[
        str | None, typer.Option(metavar="TARGET", help="Make the worker environments of a target (gigabytes).")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """The targets: format, runtime, device, what is installed, what carries compression, operating systems.

    Example: trimtab targets --json
    """
    with errors(as_json):
        from trimtab.runtime.matrix import IN_THE_MODULE, rows

        if make is not None:
            _make(make, settings_for(home))
        found = rows()
        if as_json:
            emit({"targets": [row.to_json() for row in found]}, as_json, "")
            return
        console.print(table(found))
        console.print(f"Every target carries what changes the module itself: {', '.join(IN_THE_MODULE)}.")
        for row in found:
            if row.unavailable:
                console.print(f"{row.target}: {row.unavailable}; {row.install}", markup=False)


def _make(name: str, settings: Settings) -> None:
    from trimtab.targets import target
    from trimtab.worker import ENVIRONMENTS, interpreter_of

    entry = target(name)
    for worker in sorted({entry.convert_worker, entry.load_worker} - {""}):
        interpreter_of(ENVIRONMENTS[worker], settings.home)


def table(found: list[Row]) -> Table:
    """One line a target."""
    from rich.table import Table

    from trimtab.runtime.matrix import IN_THE_GRAPH

    shown = Table()
    shown.add_column("target", no_wrap=True)
    for head in ("format", "device", "here", "carries besides FP32", "operating systems"):
        shown.add_column(head, overflow="fold")
    for row in found:
        versions = ", ".join(f"{name} {row.installed[name]}" for name in row.runtime if row.installed[name])
        carried = [word for precision, word in IN_THE_GRAPH.items() if row.carries[precision]]
        carried += ["free axes"] if row.free_axes else []
        carried += ["further outputs"] if row.further_outputs else []
        here = "no" if row.unavailable else versions
        shown.add_row(row.target, row.format, row.device, here, ", ".join(carried) or "–", ", ".join(row.systems))
    return shown
