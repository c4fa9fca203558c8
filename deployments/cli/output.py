"""What every command shares: where the state is, JSON for scripts, and errors as exit codes."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from deployments.environment import apply
from trimtab.errors import TrimtabError
from trimtab.settings import Settings

Home = Annotated[
    Path | None,
    typer.Option(
        "--home", help="State directory; default: $TRIMTAB_HOME, else the nearest .trimtab upwards.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
RecipeFile = Annotated[Path, typer.Argument(help="The recipe file.", show_default=False)]

console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


def settings_for(home: Path | None) -> Settings:
    """Settings of the state directory, with the environment our servers and flows expect applied to this process."""
    settings = Settings.load(home)
    apply(settings)
    return settings


def emit(value: dict[str, Any], as_json: bool, text: str) -> None:
    """Print the result: JSON for scripts, text (rich markup) for people."""
    if as_json:
        sys.stdout.write(json.dumps(value, default=str) + "\n")
    else:
        console.print(text)


@contextlib.contextmanager
def errors(as_json: bool = False) -> Iterator[None]:
    """Our own errors become one message and their exit code; anything else is a bug and keeps its traceback."""
    try:
        yield
    except TrimtabError as error:
        kind = type(error).__name__
        if as_json:
            body = {"error": kind, "what": error.what, "where": error.where, "fix": error.fix}
            sys.stdout.write(json.dumps(body) + "\n")
        stderr.print(f"[red]{kind}[/red] ", end="")
        stderr.print(str(error), markup=False)
        raise typer.Exit(error.exit_code) from None
