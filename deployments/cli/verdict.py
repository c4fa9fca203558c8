"""`trimtab verdict`: a recorded verdict, its figures beside the release's own, and whether it comes out the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import AsJson, Home, console, emit, errors, settings_for, stderr
from trimtab.errors import StateError

if TYPE_CHECKING:
    from rich.table import Table

    from trimtab.monitoring.verdict import Verdict


def verdict(
    name: Annotated[str, typer.Argument(help="Name of the registered model.", show_default=False)],
    seq: Annotated[int, typer.Argument(help="Number of its entry in the ledger.", min=1, show_default=False)],
    again: Annotated[bool, typer.Option("--recompute", help="Judge the rows again and compare.")] = False,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="The recipe file, if it has moved.", show_default=False)
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """A verdict and its figures; with --recompute whether it comes out the same again (exit code 7 if not).

    Example: trimtab verdict digits 3 --recompute
    """
    with errors(as_json):
        from trimtab.monitoring.verdict import Verdict
        from trimtab.recompute import recompute, recorded
        from trimtab.registry.names import release_name

        settings = settings_for(home)
        entry = recorded(settings, release_name(name), seq)
        found: dict[str, Any] = {"name": name, "seq": seq, "time": entry.time, "verdict": entry.entry["verdict"]}
        if again:
            both = recompute(settings, name, seq, recipe)
            found |= {"same": both.same, "differs": both.differs}
        if as_json:
            emit(found, True, "")
        else:
            _show(name, seq, entry.time, Verdict.from_json(entry.entry["verdict"]))
            if again:
                console.print("the same, to the byte" if found["same"] else f"[red]differs[/red]: {found['differs']}")
        if again and not found["same"]:
            stderr.print(f"verdict {seq} of {name} does not come out the same", markup=False)
            raise typer.Exit(StateError.exit_code)


def _show(name: str, seq: int, time: str, shown: Verdict) -> None:
    of = f", revision {shown.revision} (replaces {(shown.replaces or '')[:12]})" if shown.revision else ""
    console.print(f"{name}, entry {seq} of {time[:19]}: {shown.kind}{of}", markup=False)
    console.print(f"rows {shown.lo}–{shown.hi}, version {shown.version}, digest {shown.digest[:12]}", markup=False)
    for reason in shown.reasons:
        console.print(f"  {reason}", markup=False)
    if shown.figures:
        console.print(table(shown))


def table(shown: Verdict) -> Table:
    """One line a figure: measured with its interval, and what was verified of it."""
    from rich.table import Table

    made = Table(title="figures on the labelled rows", title_justify="left")
    for head in ("figure", "measured", "95 % interval", "rows", "verified"):
        made.add_column(head, overflow="fold")
    for figure in shown.figures:
        one, verified = figure.interval, figure.verified
        cells = ("undefined", figure.undefined, "") if one is None else _cells(one)
        name = figure.name.replace("[", "\\[")
        made.add_row(name, *(cell.replace("[", "\\[") for cell in cells), "" if verified is None else f"{verified:.4g}")
    return made


def _cells(one: Any) -> tuple[str, str, str]:
    return f"{one.value:.4g}", f"{one.low:.4g} to {one.high:.4g}", str(one.n)
