"""A recorded verdict made again from what it was made from: rows, labels of that moment, release, settings, past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trimtab.candidate import digest_of
from trimtab.errors import StateError
from trimtab.journal import reader
from trimtab.ledger import Entry, Ledger
from trimtab.monitoring.verdict import Verdict
from trimtab.recipe.schema import Monitoring
from trimtab.settings import Settings
from trimtab.watch import Watch


@dataclass(frozen=True)
class Recomputed:
    """Both, as JSON; `differs` names the keys in which they do."""

    recorded: Mapping[str, Any]
    again: Mapping[str, Any]

    @property
    def same(self) -> bool:
        """Whether they are the same to the byte."""
        return digest_of(dict(self.recorded)) == digest_of(dict(self.again))

    @property
    def differs(self) -> list[str]:
        """Keys whose values differ, sorted."""
        keys = self.recorded.keys() | self.again.keys()
        return sorted(key for key in keys if self.recorded.get(key) != self.again.get(key))


def recorded(settings: Settings, name: str, seq: int) -> Entry:
    """One entry of a release's verdicts.

    Raises:
        StateError: there is none of this number, or it is no verdict.
    """
    entries = Ledger(settings.ledger).read(f"verdicts/{name}")
    found = next((entry for entry in entries if entry.seq == seq), None)
    if found is None:
        there = f"entries 1 to {entries[-1].seq}" if entries else "none"
        raise StateError(f"there is no entry {seq}", where=f"verdicts/{name}", fix=f"there are: {there}")
    if "verdict" not in found.entry:
        raise StateError(f"entry {seq} is no verdict: {found.entry.get('passed_over')}", where=f"verdicts/{name}")
    return found


def recompute(settings: Settings, name: str, seq: int, recipe: Path | None = None) -> Recomputed:
    """Judge the rows of a recorded verdict again, with nothing that was known later.

    Args:
        recipe: the recipe file, for slices that its code computes; None: where it lay then. Its `monitoring` section is
            taken from the entry.

    Raises:
        StateError: no such verdict, or it was recorded before what this needs was kept.
    """
    entry = recorded(settings, name, seq)
    labels = entry.entry["verdict"].get("labels")
    if labels is None or "monitoring" not in entry.entry:
        raise StateError(
            f"entry {seq} was recorded before verdicts kept what they were made with", where=f"verdicts/{name}"
        )
    watch = Watch(recipe or entry.entry["recipe"], settings)
    if watch.name != name:
        raise StateError(f"the recipe is of {watch.name!r}, not of {name!r}", where=str(watch.path))
    watch.recipe = watch.recipe.model_copy(update={"monitoring": _settings(entry, name)})
    verdict = Verdict.from_json(entry.entry["verdict"])
    window = reader.window(watch.journal, verdict.lo, verdict.hi, labels["as_of_ns"])
    # What the service's samples said is taken from the verdict: they are kept for some days only.
    return Recomputed(entry.entry["verdict"], watch.judge(window, before=seq, sampled=verdict.service).to_json())


def _settings(entry: Entry, name: str) -> Monitoring:
    try:
        return Monitoring.model_validate(entry.entry["monitoring"])
    except ValidationError as error:
        first = error.errors()[0]
        where = f"verdicts/{name}, entry {entry.seq}: monitoring.{'.'.join(map(str, first['loc']))}"
        raise StateError(f"was judged by a key that is not known any more: {first['msg']}", where=where) from None
