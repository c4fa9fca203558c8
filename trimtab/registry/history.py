"""The history of a release name: who let what serve, when and why, from the ledger; and whether it is as written.

The ledger's hash chain shows an entry that was changed, removed or put in between. A tail that was cut off shows
against the copy that MLflow keeps: the number and hash of the last entry, as a tag of the registered model.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from trimtab.candidate import digest_of
from trimtab.errors import StateError
from trimtab.ledger import Entry, Ledger
from trimtab.registry.promotions import OUTSIDE, fold, stream
from trimtab.registry.staging_log import moves


@dataclass(frozen=True)
class Change:
    """A change of what serves.

    Attributes:
        time: UTC, ISO 8601. kind: "promote", "rollback", or what changes nothing served: "to Staging", "to Archived",
            and of a hand in MLflow "put back" and "lost".
        outside: by hand in MLflow; honoured afterwards, unless it was put back.
        before, after: versions; `before` is None for the first, and for a move to a stage; `after` for nothing.
        evidence: SHA-256 of what the promotion was given as evidence, None if nothing was.
        gate: SHA-256 of the gate's decision that `after` was registered with.
        seq, hash: number and hash of its entry in the ledger.
    """

    time: str
    who: str
    kind: str
    before: int | None
    after: int | None
    why: str
    evidence: str | None
    gate: str | None
    outside: bool
    seq: int
    hash: str

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe; "from" and "to" as people say it."""
        value = asdict(self)
        return {"from": value.pop("before"), "to": value.pop("after"), **value}


@dataclass(frozen=True)
class Mark:
    """The last entry that MLflow was told of, "<seq>:<hash>" as a tag."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str | None) -> Mark | None:
        """The inverse of `str`; None for none, and for what somebody else wrote there."""
        seq, _, found = (text or "").partition(":")
        return cls(int(seq), found) if seq.isdecimal() and len(found) == 64 else None


def changes(ledger: Ledger, name: str) -> list[Change]:
    """Every finished promotion, rollback and move to a stage, and what was put back, oldest first."""
    entries = ledger.read(stream(name))
    hashes = {item.seq: item.hash for item in entries}
    registered = (item.entry for item in ledger.read(f"versions/{name}") if item.entry["act"] == "registered")
    gates = {int(entry["version"]): entry.get("evidence") for entry in registered}
    served = [
        Change(
            time=done.time,
            who=done.who,
            kind=done.kind,
            before=done.previous,
            after=done.version,
            why=done.why,
            evidence=None if done.evidence is None else digest_of(done.evidence),
            gate=gates.get(done.version),
            outside=done.outside,
            seq=done.seq,
            hash=hashes[done.seq],
        )
        for done in fold(name, entries).done
    ]
    staged = [
        Change(
            time=done.time,
            who=done.who,
            kind=f"to {done.to}",
            before=None,
            after=done.version,
            why=done.why,
            evidence=None,
            gate=gates.get(done.version),
            outside=False,
            seq=done.seq,
            hash=hashes[done.seq],
        )
        for done in moves(entries)[0]
    ]
    return sorted([*served, *staged, *_put_back(entries)], key=lambda one: one.seq)


def _put_back(entries: Sequence[Entry]) -> list[Change]:
    """What hands in MLflow set that is not so any more, or cannot be mended."""
    return [
        Change(
            time=item.time,
            who=item.entry.get("who", OUTSIDE),
            kind="put back" if item.entry["act"] == "restored" else "lost",
            before=item.entry["refused"] if item.entry["act"] == "restored" else item.entry["version"],
            after=item.entry["version"] if item.entry["act"] == "restored" else None,
            why=item.entry["why"],
            evidence=None,
            gate=None,
            outside=True,
            seq=item.seq,
            hash=item.hash,
        )
        for item in entries
        if item.entry["act"] in ("restored", "lost")
    ]


def tampering(ledger: Ledger, name: str, mark: Mark | None = None) -> list[str]:
    """What shows that the ledger was changed behind our back, one sentence each; empty if nothing does.

    Args:
        mark: the last entry that MLflow was told of, if it can be asked.
    """
    found = []
    for checked in (stream(name), f"versions/{name}"):
        try:
            ledger.check(checked)
        except StateError as error:
            found.append(f"{error.where}: {error.what}")
    if mark is not None:
        entries = {item.seq: item.hash for item in ledger.read(stream(name), after=mark.seq - 1)}
        if mark.seq not in entries:
            found.append(f"ledger stream {stream(name)}: MLflow was told of entry {mark.seq}, which is gone: cut off")
        elif entries[mark.seq] != mark.hash:
            found.append(f"ledger stream {stream(name)}: entry {mark.seq} is another than MLflow was told of")
    return found


def to_csv(history: Sequence[Change]) -> str:
    """One line a change, oldest first."""
    out = io.StringIO()
    heads = [{"before": "from", "after": "to"}.get(field.name, field.name) for field in fields(Change)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    for change in history:
        writer.writerow(["" if value is None else _plain(value) for value in asdict(change).values()])
    return out.getvalue()


def to_markdown(history: Sequence[Change]) -> str:
    """A table for the version's page in MLflow, newest first."""
    lines = ["| when (UTC) | what | from | to | who | why | gate |", "|---|---|---|---|---|---|---|"]
    for change in reversed(history):
        what = f"{change.kind}, by hand" if change.outside else change.kind
        cells = (change.time[:19], what, change.before, change.after, change.who, change.why, (change.gate or "")[:12])
        lines.append("| " + " | ".join(_cell(value) for value in cells) + " |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    text = "–" if value in (None, "") else " ".join(str(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _plain(value: object) -> object:
    """A reason that begins like a formula would be one in a spreadsheet."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
