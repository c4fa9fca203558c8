"""`trimtab`: every command, in the order in which a release lives."""

from __future__ import annotations

import typer

from deployments.cli import (
    challenge,
    doctor,
    explain,
    flows,
    history,
    keys,
    recipes,
    registry,
    retention,
    score,
    show,
    stack,
    targets,
    tokens,
)
from deployments.cli.output import errors

app = typer.Typer(
    name="trimtab",
    help="A trained PyTorch model to a compressed, verified, registered, served and watched release.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.command()(recipes.init)
app.command()(recipes.validate)
app.command()(targets.targets)
app.command()(stack.up)
app.command()(flows.release)
app.command()(explain.explain)
app.command()(flows.serve)
app.command()(score.score)
app.command()(flows.monitor)
app.command()(registry.promote)
app.command()(registry.rollback)
app.command()(challenge.challenge)
app.command()(registry.status)
app.command()(history.history)
app.command()(show.show)
app.add_typer(keys.app, name="keys")
app.add_typer(tokens.app, name="tokens")
app.command()(retention.delete)
app.command()(retention.clean)
app.command()(doctor.doctor)
app.command()(stack.down)


def run() -> None:
    """Entry point of the console script."""
    with errors():
        app()
