"""`trimtab audit`: what was seen, decided and changed, and the rows that caused it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import AsJson, Home, console, emit, errors, settings_for

if TYPE_CHECKING:
    from trimtab.audit import Moment

LAST = 25


def audit(
    name: Annotated[str, typer.Argument(help="Name of the registered model.", show_default=False)],
    rows: Annotated[
        str | None,
        typer.Option("--rows", help="Print the journal's rows of this verdict as CSV (first digits of its digest)."),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Windows, verdicts, alerts, reactions, releases in one order; writes <home>/reports/NAME/audit.html.

    Example: trimtab audit digits --rows 3fa1c08b > rows.csv
    """
    with errors(as_json):
        from trimtab.audit.rows import rows_of, to_csv
        from trimtab.audit.write import write_audit
        from trimtab.registry.names import release_name

        settings = settings_for(home)
        if rows is not None:
            sys.stdout.write(to_csv(rows_of(settings, release_name(name), rows)))
            return
        path, moments = write_audit(settings, release_name(name))
        if as_json:
            emit(_json(name, path, moments), True, "")
            return
        for moment in moments[-LAST:]:
            console.print(f"{moment.time[:19]}  {moment.kind:<9} {moment.title}", markup=False)
        console.print(f"the whole page: {path}", markup=False)


def _json(name: str, path: Path, moments: list[Moment]) -> dict[str, Any]:
    return {"name": name, "page": str(path), "moments": [dict(vars(moment)) for moment in moments]}
