"""Writes the audit page of a release name where the scoring service serves it."""

from __future__ import annotations

from pathlib import Path

from trimtab.audit.page import render
from trimtab.audit.timeline import Moment, timeline
from trimtab.ledger import Ledger
from trimtab.registry.promotions import read_log
from trimtab.settings import Settings
from trimtab.store import write_atomic

PAGE = "audit.html"


def write_audit(settings: Settings, name: str) -> tuple[Path, list[Moment]]:
    """Write <home>/reports/<name>/audit.html; its path, and what is on it."""
    ledger = Ledger(settings.ledger)
    moments, log = timeline(ledger, name), read_log(ledger, name)
    serving = "Nothing serves yet." if log.champion is None else f"Version {log.champion} serves."
    if log.previous is not None:
        serving += f" The way back is version {log.previous}."
    path = settings.reports / name / PAGE
    write_atomic(path, render(name, moments, serving).encode())
    return path, moments
