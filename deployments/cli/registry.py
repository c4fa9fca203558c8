"""`trimtab promote`, `rollback` and `status`: what serves, what served, and changing it with a record."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.cli.output import AsJson, Home, emit, errors, settings_for
from trimtab.errors import RecipeError

Name = Annotated[str, typer.Argument(help="Name of the registered model.", show_default=False)]
Why = Annotated[str, typer.Option("--why", help="The reason; it goes into the promotion log.", show_default=False)]


class Stage(StrEnum):
    """Where a version may be moved."""

    STAGING = "staging"
    PRODUCTION = "production"
    ARCHIVED = "archived"


def promote(
    name: Name,
    version: Annotated[int, typer.Argument(help="Version number.", min=1, show_default=False)],
    why: Why,
    to: Annotated[Stage, typer.Option("--to", help="Production serves; the others do not.")] = Stage.PRODUCTION,
    force: Annotated[
        bool, typer.Option("--force", help="Without the evidence serving.promotion asks for; the record says so.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a version that passed the gate the champion, stage Production and alias together; or move it elsewhere.

    Example: trimtab promote digits 3 --why "agreed with the product owner"
    """
    with errors(as_json):
        if force and to is not Stage.PRODUCTION:
            raise RecipeError(f"--to {to.value} asks for no evidence", where="--force", fix="leave --force out")
        if to is Stage.PRODUCTION:
            _serve(name, version, why, force, home, as_json)
        else:
            _move(name, version, to.value.title(), why, home, as_json)


def _serve(name: str, version: int, why: str, force: bool, home: Path | None, as_json: bool) -> None:
    from trimtab.registry.author import author
    from trimtab.registry.connection import Registry
    from trimtab.registry.promote import promote as move

    done = move(Registry.from_settings(settings_for(home)), name, version, who=author(), why=why, force=force)
    emit(done.to_json(), as_json, f"{name}: version {done.version} is the champion (before: {done.previous})")


def _move(name: str, version: int, stage: str, why: str, home: Path | None, as_json: bool) -> None:
    from trimtab.registry.author import author
    from trimtab.registry.connection import Registry
    from trimtab.registry.staging import stage as move

    done = move(Registry.from_settings(settings_for(home)), name, version, stage, who=author(), why=why)
    said = f"{name}: version {version} is in {stage}" + (f" (was in {done.before})" if done else " already")
    emit({"name": name, "version": version, "stage": stage, "moved": done is not None}, as_json, said)


def rollback(name: Name, why: Why, home: Home = None, as_json: AsJson = False) -> None:
    """Go back to the version that served before.

    Example: trimtab rollback digits --why "errors since this morning"
    """
    with errors(as_json):
        from trimtab.registry.author import author
        from trimtab.registry.connection import Registry
        from trimtab.registry.promote import rollback as back

        done = back(Registry.from_settings(settings_for(home)), name, who=author(), why=why)
        emit(done.to_json(), as_json, f"{name}: back to version {done.version} (was {done.previous})")


def status(
    name: Annotated[str | None, typer.Argument(help="Also say what this release is up to.")] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """What runs, what serves, what was decided.

    Example: trimtab status digits
    """
    with errors(as_json):
        from deployments.stack import status as servers

        settings = settings_for(home)
        found: dict[str, Any] = {
            "home": str(settings.home),
            "servers": [
                {"name": s.name, "state": s.state, "ready": s.ready, "url": s.url, "log": str(s.log)}
                for s in servers(settings)
            ],
        }
        names = [name] if name else sorted(settings.scoring)
        found["releases"] = {each: _release(each, home) for each in names}
        emit(found, as_json, _text(found))


def _release(name: str, home: Any) -> dict[str, Any]:
    from trimtab.ledger import Ledger
    from trimtab.registry.challenges import read_challenges
    from trimtab.registry.names import release_name
    from trimtab.registry.promotions import read_log

    release_name(name)
    ledger = Ledger(settings_for(home).ledger)
    log = read_log(ledger, name)
    verdicts = [item.entry for item in ledger.read(f"verdicts/{name}") if "verdict" in item.entry]
    reactions = [item.entry for item in ledger.read(f"reactions/{name}")]
    return {
        "champion": log.champion,
        "previous": log.previous,
        "challenger": read_challenges(ledger, name).version,
        "promotions": [promotion.to_json() for promotion in log.done],
        "verdicts": [entry["verdict"]["kind"] for entry in verdicts],
        "reactions": [
            f"{entry['act']}: {entry.get('outcome') or entry.get('reason') or entry.get('who')}" for entry in reactions
        ],
    }


def _text(found: dict[str, Any]) -> str:
    lines = [f"state  {found['home']}"]
    if not found["servers"]:
        lines.append("no servers: start them with `trimtab up`")
    for server in found["servers"]:
        mark = "[green]ready[/green]" if server["ready"] else f"[red]{server['state']}[/red]"
        lines.append(f"  {server['name']:<20} {mark}  {server['url'] or server['log']}")
    for name, release in found["releases"].items():
        tried = f", challenger {release['challenger']}" if release["challenger"] is not None else ""
        lines.append(f"{name}: champion {release['champion']}, the way back {release['previous']}{tried}")
        lines += [
            f"  {p['time'][:19]} {p['kind']} version {p['version']} by {p['who']}: {p['why']}"
            for p in release["promotions"][-5:]
        ]
        lines.append(f"  verdicts: {', '.join(release['verdicts'][-8:]) or 'none yet'}")
        lines += [f"  reaction {text}" for text in release["reactions"][-4:]]
    return "\n".join(lines)
