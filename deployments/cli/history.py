"""`trimtab history`: who let what serve, when and why."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.output import AsJson, Home, console, emit, errors, settings_for, stderr
from trimtab.errors import RegistryError, StateError
from trimtab.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from trimtab.registry.history import Change


def history(
    name: Annotated[str, typer.Argument(help="Name of the registered model.", show_default=False)],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Every promotion and rollback, from the ledger; exit code 7 if the ledger was changed behind our back.

    Example: trimtab history digits --csv > digits.csv
    """
    with errors(as_json):
        from trimtab.ledger import Ledger
        from trimtab.registry.history import changes, to_csv
        from trimtab.registry.names import release_name

        settings = settings_for(home)
        found = changes(Ledger(settings.ledger), release_name(name))
        wrong = _tampering(settings, name)
        if as_csv:
            sys.stdout.write(to_csv(found))
        elif as_json:
            emit({"name": name, "history": [one.to_json() for one in found], "tampering": wrong}, True, "")
        else:
            console.print(table(name, found) if found else f"{name}: nothing was promoted yet")
        for line in wrong:
            stderr.print(f"✗ {line}", style="red", markup=False)
        if wrong:
            raise typer.Exit(StateError.exit_code)


def _tampering(settings: Settings, name: str) -> list[str]:
    """What the chain shows, and the mark that MLflow keeps where it can be asked."""
    from trimtab.ledger import Ledger
    from trimtab.registry.history import tampering

    ledger = Ledger(settings.ledger)
    if not settings.mlflow_tracking_uri:
        return tampering(ledger, name)
    from trimtab.registry.connection import mlflow_client, mlflow_errors
    from trimtab.registry.pages import mark_of

    try:
        with mlflow_errors(name):
            mark = mark_of(mlflow_client(settings.mlflow_tracking_uri), name)
    except RegistryError as error:
        stderr.print(f"MLflow's copy was not compared: {error.what}", markup=False)
        mark = None
    return tampering(ledger, name, mark)


def table(name: str, found: list[Change]) -> Table:
    """One line a change, oldest first."""
    from rich.table import Table

    shown = Table(title=f"{name}: what served", title_justify="left")
    for head in ("when (UTC)", "what", "from", "to", "who", "why", "gate"):
        shown.add_column(head, overflow="fold", no_wrap=head not in ("who", "why"))
    for change in found:
        what = f"{change.kind} (by hand)" if change.outside else change.kind
        before, after = ("–" if version is None else str(version) for version in (change.before, change.after))
        cells = (change.time[:19], what, before, after, change.who, change.why, (change.gate or "")[:12])
        shown.add_row(*(cell.replace("[", "\\[") for cell in cells))
    return shown
