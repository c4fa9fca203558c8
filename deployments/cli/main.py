"""`trimtab`: every command, in the order in which a release lives."""

from __future__ import annotations

import typer

from deployments.cli import (
    audit,
    doctor,
    explain,
    flows,
    history,
    keys,
    reacting,
    recipes,
    registry,
    retention,
    show,
    stack,
    targets,
    verdict,
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
app.command()(flows.monitor)
app.command()(verdict.verdict)
app.command()(registry.promote)
app.command()(registry.rollback)
app.command()(registry.status)
app.command()(reacting.approve)
app.command()(reacting.breaker)
app.command()(history.history)
app.command()(audit.audit)
app.command()(show.show)
app.add_typer(keys.app, name="keys")
app.command()(retention.delete)
app.command()(retention.clean)
app.command()(doctor.doctor)
app.command()(stack.down)


def run() -> None:
    """Entry point of the console script."""
    with errors():
        app()
