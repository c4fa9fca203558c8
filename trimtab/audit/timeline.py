"""The ledger's streams of one release name as one list of moments, each with what it followed from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trimtab.ledger import Entry, Ledger
from trimtab.task import NAMES

Kind = Literal["window", "skipped", "alert", "proposal", "reaction", "release", "serves"]
STREAMS = ("verdicts", "reactions", "alerts", "versions", "promotions")
FIGURES = ("label", "target", *NAMES, "difference", "speedup", "p50_ms", "size_ratio")


@dataclass(frozen=True)
class Moment:
    """One thing that happened.

    Attributes:
        time: UTC, ISO 8601. id: unique on the page, of a window "verdict-<digest>".
        tone: "good", "bad", "open" or "" for colour.
        title, details: plain text. changed: what is another since, "" for nothing.
        follows: id of the moment it followed from; "" for none.
        page: file beside this page with more; "" for none.
        rows: (lo, hi) of the journal that it is about.
    """

    time: str
    kind: Kind
    id: str
    title: str
    details: tuple[str, ...] = ()
    tone: str = ""
    changed: str = ""
    follows: str = ""
    page: str = ""
    rows: tuple[int, int] | None = None


def timeline(ledger: Ledger, name: str) -> list[Moment]:
    """Everything the ledger has of a release name, oldest first."""
    return moments({one: ledger.read(f"{one}/{name}") for one in STREAMS})


def moments(streams: Mapping[str, Sequence[Entry]]) -> list[Moment]:
    """The same from the entries themselves; pure.

    Args:
        streams: "verdicts", "reactions", "alerts", "versions", "promotions" → entries, oldest first.
    """
    readers: dict[str, Callable[[Sequence[Entry]], Iterator[Moment]]] = {
        "verdicts": _windows,
        "reactions": _reactions,
        "alerts": _alerts,
        "versions": _releases,
        "promotions": _promotions,
    }
    found = [moment for one, read in readers.items() for moment in read(streams.get(one, ()))]
    return sorted(found, key=lambda moment: (moment.time, moment.id))


def verdict_id(digest: str) -> str:
    """Id of the moment in which a window was judged."""
    return f"verdict-{digest[:16]}"


def _windows(entries: Sequence[Entry]) -> Iterator[Moment]:
    seen: set[int] = set()
    for item in entries:
        entry = item.entry
        if "verdict" not in entry:
            rows = (int(entry["lo"]), int(entry["hi"]))
            title = f"rows {rows[0]}–{rows[1]} passed over"
            yield Moment(
                item.time, "skipped", f"skipped-{item.seq}", title, (str(entry.get("passed_over")),), rows=rows
            )
            continue
        verdict, lo, hi = entry["verdict"], int(entry["lo"]), int(entry["hi"])
        again = " (judged again, with labels that came late)" if lo in seen else ""
        seen.add(lo)
        yield Moment(
            item.time,
            "window",
            verdict_id(entry["digest"]),
            f"{verdict['kind']}: rows {lo}–{hi}, version {verdict['version']}{again}",
            (*verdict["reasons"], f"verdict {entry['digest']}"),
            "good" if verdict["kind"] == "healthy" else "open" if verdict["kind"] == "not_enough_rows" else "bad",
            page=f"window-{lo}-{hi}.html",
            rows=(lo, hi),
        )


def _reactions(entries: Sequence[Entry]) -> Iterator[Moment]:
    actions: dict[str, str] = {}
    for item in entries:
        entry, act = item.entry, item.entry["act"]
        follows = verdict_id(entry["verdict"]) if "verdict" in entry else ""
        run = (f"flow run {entry['run']}",) if entry.get("run") else ()
        if act == "closed":
            title = "the circuit breaker was closed"
            yield Moment(item.time, "reaction", f"reaction-{item.seq}", title, (f"{entry['reason']} ({entry['who']})",))
        elif act == "finished":
            action = actions.get(entry["verdict"], "reaction")
            version, release = _made(entry)
            yield Moment(
                item.time,
                "reaction",
                f"reaction-{item.seq}",
                f"{action} ended: {entry['outcome']}",
                (*_figures(release), *run),
                "bad" if version is None else "good",
                "nothing" if version is None else f"version {version} serves",
                follows,
            )
        else:
            if "action" in entry:
                actions[entry["verdict"]] = str(entry["action"])
            action = actions.get(entry["verdict"], "reaction")
            said = {
                "proposed": "proposed",
                "approved": f"approved by {entry.get('who')}",
                "expired": "expired: nobody approved it in time",
                "started": "started",
            }
            details = (str(entry["reason"]), *run) if "reason" in entry else run
            if entry.get("expires"):
                details = (*details, f"can be approved until {entry['expires'][:16].replace('T', ' ')} UTC")
            kind: Kind = "reaction" if act == "started" else "proposal"
            title = f"{action} {said.get(act, act)}"
            tone, changed = ("bad", "nothing") if act == "expired" else ("open", "")
            yield Moment(item.time, kind, f"reaction-{item.seq}", title, details, tone, changed, follows)


def _made(entry: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    release = entry.get("release") or {}
    return entry.get("version", release.get("version")), release


def _figures(release: Mapping[str, Any]) -> Iterator[str]:
    for key in FIGURES:
        value = release.get(key)
        if value is not None:
            yield f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}"


def _alerts(entries: Sequence[Entry]) -> Iterator[Moment]:
    for item in entries:
        subject, body = str(item.entry["subject"]), str(item.entry["body"])
        digest = body.removeprefix("verdict ") if body.startswith("verdict ") else ""
        follows = verdict_id(digest) if digest else ""
        details = () if digest else tuple(line for line in body.splitlines() if line)
        yield Moment(item.time, "alert", f"alert-{item.seq}", subject, details, "bad", follows=follows)


def _releases(entries: Sequence[Entry]) -> Iterator[Moment]:
    for item in entries:
        act, version = item.entry["act"], item.entry.get("version")
        if act == "registered":
            key = str(item.entry.get("release_key", ""))[:16]
            title = f"version {version} passed the gate and was registered"
            yield Moment(item.time, "release", f"release-{item.seq}", title, (f"release {key}",), "good")
        elif act == "deleted":
            yield Moment(item.time, "release", f"release-{item.seq}", f"version {version} was deleted")


def _promotions(entries: Sequence[Entry]) -> Iterator[Moment]:
    intents = {item.seq: item.entry for item in entries if item.entry["act"] == "promoting"}
    for item in entries:
        act = item.entry["act"]
        if act not in ("promoted", "outside"):
            continue
        entry = intents.get(item.entry.get("intent", -1), item.entry) if act == "promoted" else item.entry
        if "version" not in entry:
            continue
        evidence = entry.get("evidence")
        digest = evidence.get("verdict") if isinstance(evidence, Mapping) else None
        back = entry.get("kind") == "rollback"
        yield Moment(
            item.time,
            "serves",
            f"serves-{item.seq}",
            f"version {entry['version']} serves ({entry.get('kind')}; before: {entry.get('from')})",
            (f"{entry.get('why')} ({entry.get('who')})",),
            "open" if back else "good",
            f"version {entry.get('from')} → {entry['version']}",
            verdict_id(digest) if digest else "",
        )
