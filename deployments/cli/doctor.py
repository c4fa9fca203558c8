"""`trimtab doctor`: look for what a crash or a hand left behind, and mend it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from deployments.cli.output import AsJson, Home, emit, errors, settings_for
from trimtab.errors import Conflict, TrimtabError
from trimtab.settings import Settings


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Check the state directory, the servers, the ledger's chain and the registry; exit code 1 if something is wrong.

    Example: trimtab doctor --fix
    """
    with errors(as_json):
        settings = settings_for(home)
        checks: dict[str, Callable[[Settings, bool], list[str]]] = {
            "state": _state,
            "servers": _servers,
            "ledger": _ledger,
            "keys": _keys,
            "registry": _registry,
        }
        found: dict[str, list[str]] = {}
        for name, check in checks.items():
            try:
                found[name] = check(settings, fix)
            except TrimtabError as error:
                found[name] = [f"✗ {error}"]
        bad = [line for lines in found.values() for line in lines if line.startswith("✗")]
        text = "\n".join(f"{name:<9} {line}" for name, lines in found.items() for line in lines or ["fine"])
        emit({"ok": not bad, "checks": found}, as_json, text.replace("[", "\\["))
        if bad:
            raise typer.Exit(1)


def _state(settings: Settings, fix: bool) -> list[str]:
    if not settings.home.exists():
        return [f"nothing here yet: {settings.home}"]
    settings.ensure_home()
    return []


def _servers(settings: Settings, fix: bool) -> list[str]:
    from deployments.stack import status

    found = status(settings)
    if not found:
        return ["not started (`trimtab up`)"]
    return [f"✗ {s.name} is {s.state}; its log: {s.log}" for s in found if not s.ready]


def _ledger(settings: Settings, fix: bool) -> list[str]:
    from trimtab.ledger import Ledger

    if settings.ledger.startswith("sqlite") and not (settings.home / "ledger.db").exists():
        return ["empty so far"]
    ledger = Ledger(settings.ledger)
    problems = []
    for stream in ledger.streams():
        try:
            ledger.check(stream)
        except TrimtabError as error:
            problems.append(f"✗ {error}")
    return problems


def _keys(settings: Settings, fix: bool) -> list[str]:
    from trimtab.registry.keys import Keyring

    found = Keyring(settings.signing_keys).every()  # reads the private key too: says so if others can read it
    count = {state: sum(key.state == state for key in found) for state in ("signs", "trusted", "revoked")}
    return [", ".join(f"{number} {state}" for state, number in count.items() if number) or "none yet"]


def _registry(settings: Settings, fix: bool) -> list[str]:
    from trimtab.ledger import Ledger
    from trimtab.registry.connection import Registry
    from trimtab.registry.examine import examine
    from trimtab.registry.mend import mend

    if not settings.mlflow_tracking_uri:
        return ["no MLflow server is known (`trimtab up`)"]
    names = [stream.partition("/")[2] for stream in Ledger(settings.ledger).streams("versions/")]
    registry = Registry.from_settings(settings)
    if not fix:
        problems = [f"✗ {sentence}" for name in names for sentence in examine(registry, name)]
        hint = "; `--fix` settles what a crash or a hand left behind" if problems else ""
        return [*problems, f"releases: {', '.join(names) or 'none'}{hint}"]
    done: list[str] = []
    for name in names:
        try:
            done += mend(settings, registry, name)
            done += [f"✗ {sentence}" for sentence in examine(registry, name)]
        except Conflict as error:
            done.append(str(error))
    return done
