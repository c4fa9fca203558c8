"""`trimtab tokens`: who may ask the scoring services of this state directory, where `serving.auth` is on."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.output import AsJson, Home, emit, errors, settings_for

app = typer.Typer(help="Tokens of the scoring services, where serving.auth is on.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Option("--name", help="Whose it is; shown in the list.", show_default=False)],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="score, labels or read; may be given several times. Default: score."),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and show it, once: only its hash is kept. Running services take it within a second.

    Example: trimtab tokens add --name shop --scope score --scope labels
    """
    with errors(as_json):
        from trimtab.serving.tokens import TokenFile

        secret, token = TokenFile.of(settings_for(home).ensure_home()).add(name, scope or ["score"])
        text = f"{secret}\n(token {token.id} for {', '.join(token.scopes)}; it cannot be shown again)"
        emit({"token": secret, **token.shown()}, as_json, text.replace("[", "\\["))


@app.command("list")
def show(home: Home = None, as_json: AsJson = False) -> None:
    """Every token, without what it is.

    Example: trimtab tokens list
    """
    with errors(as_json):
        from trimtab.serving.tokens import TokenFile

        found = TokenFile.of(settings_for(home)).read()
        lines = [f"{token.id}  {token.made}  {','.join(token.scopes):<17}  {token.name}" for token in found]
        text = "\n".join(lines) or "no token yet: `trimtab tokens add --name NAME`"
        emit({"tokens": [token.shown() for token in found]}, as_json, text.replace("[", "\\["))


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Its id, as listed.", show_default=False)],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Refuse a token from now on; running services do within a second.

    Example: trimtab tokens revoke 1b9d6bcd
    """
    with errors(as_json):
        from trimtab.serving.tokens import TokenFile

        gone = TokenFile.of(settings_for(home)).revoke(token)
        emit({"revoked": gone.shown()}, as_json, f"token {gone.id} ({gone.name}) is revoked".replace("[", "\\["))
