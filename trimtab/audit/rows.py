"""From a verdict back to the rows of the journal that it was about."""

from __future__ import annotations

import csv
import io

from trimtab.errors import StateError
from trimtab.journal import reader
from trimtab.journal.window import Window, has_label
from trimtab.ledger import Ledger
from trimtab.settings import Settings

COLUMNS = ("offset", "request_id", "row", "time_ns", "version", "status", "error", "predicted", "confidence", "label")


def rows_of(settings: Settings, name: str, digest: str) -> Window:
    """The window of a verdict, with the labels that have arrived by now.

    Args:
        digest: of the verdict, or its first digits.

    Raises:
        StateError: no verdict begins so, or several windows' do; or the journal lacks the rows.
    """
    entries = [item.entry for item in Ledger(settings.ledger).read(f"verdicts/{name}") if "verdict" in item.entry]
    places = {(int(e["lo"]), int(e["hi"])) for e in entries if digest and e["digest"].startswith(digest)}
    if len(places) != 1:
        what = "no verdict begins" if not places else f"{len(places)} windows have verdicts that begin"
        raise StateError(f"{what} with {digest!r}", where=name, fix="`trimtab audit NAME` shows the digests")
    lo, hi = places.pop()
    return reader.window(settings.journal / name, lo, hi)


def to_csv(window: Window) -> str:
    """One line a row; inputs and probabilities stay in the journal's files."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    labelled = has_label(window.label)
    for index in range(len(window)):
        label = window.label[index].item() if labelled[index] else ""
        writer.writerow(
            [
                window.lo + index,
                window.request_id[index],
                int(window.row[index]),
                int(window.time_ns[index]),
                window.version[index],
                int(window.status[index]),
                window.error[index] or "",
                int(window.predicted[index]),
                float(window.confidence[index]),
                label,
            ]
        )
    return out.getvalue()
