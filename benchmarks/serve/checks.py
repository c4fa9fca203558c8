"""Whether a figure counts: every server gives the runtime's answers, and our journal holds every row it answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import orjson

from benchmarks.serve.open_loop import Answered
from benchmarks.serve.servers import Server
from benchmarks.serve.task import INPUT, OUTPUT, SHAPE, answers, bodies
from trimtab.journal.reader import end
from trimtab.journal.segments import list_segments, places

ATOL = 1e-3  # INT8 kernels of other batch sizes may round an accumulator to the neighbouring step
SAMPLE = 200


def probe(server: Server, folder: Path, cell: str) -> str:
    """Ask a server for each body of a cell; why it has no such cell, "" if it answers as the runtime does.

    Raises:
        SystemExit: it answers something else.
    """
    headers = server.headers(cell)
    if headers is None:
        return server.why
    with httpx.Client(timeout=60) as client:
        for path, expected in zip(bodies(folder, cell), answers(folder, cell), strict=True):
            answer = client.post(server.url, content=path.read_bytes(), headers=headers)
            if answer.status_code == 415:
                return f"it does not take {headers['Content-Type']}"
            if answer.status_code != 200:
                raise SystemExit(f"{server.name}, {cell}: {answer.status_code} {answer.text[:200]}")
            check(f"{server.name}, {cell}", answer.content, expected)
    return ""


def check(what: str, body: bytes, expected: np.ndarray) -> None:
    """See that an answer holds the runtime's numbers.

    Raises:
        SystemExit: it does not.
    """
    predictions = orjson.loads(body)["predictions"]
    given = np.array(predictions[OUTPUT] if isinstance(predictions, dict) else predictions, np.float64)
    if given.shape != expected.shape or not np.abs(given - expected).max() <= ATOL:
        raise SystemExit(f"{what}: the answer is not the runtime's")


def check_sample(what: str, answered: Sequence[Answered], folder: Path, cell: str) -> int:
    """The same of some of the answers under load; how many were checked."""
    expected = answers(folder, cell)
    chosen = answered[:: max(len(answered) // SAMPLE, 1)]
    for one in chosen:
        check(what, one.body, expected[one.which])
    return len(chosen)


def answered_rows(server: Server) -> tuple[int, int]:
    """Rows that our service says it answered, and those of them that it did not journal; once nothing is unfinished."""
    while True:
        text = httpx.get(server.url.replace("/invocations", "/metrics"), timeout=10).text
        figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        if float(figures["trimtab_queue"]) == 0:
            return int(float(figures["trimtab_rows_total"])), int(float(figures["trimtab_journal_shed_rows_total"]))
        time.sleep(0.1)


def check_journal(server: Server, folder: Path, seen_by_clients: int, unseen_at_most: int) -> dict[str, int]:
    """Compare the journal with what was answered.

    Args:
        seen_by_clients: rows of the answers that clients counted.
        unseen_at_most: rows of requests that wrk had under way when its time was up.

    Raises:
        SystemExit: it holds another number of rows than were answered, or rows without their inputs.
    """
    time.sleep(1)  # what wrk left under way
    answered, shed = answered_rows(server)
    rows = end(journal(folder))
    if shed or rows != answered or not seen_by_clients <= rows <= seen_by_clients + unseen_at_most:
        said = f"{answered} were answered, {shed} of them shed; clients saw {seen_by_clients}"
        raise SystemExit(f"the journal holds {rows} rows; {said}")
    for segment in list_segments(journal(folder))[-2:]:
        for place in places(segment.path.read_bytes(), segment.path):
            inputs = place.rows().inputs.get(INPUT)
            if inputs is None or inputs.shape[1:] != SHAPE:
                raise SystemExit("rows of the journal lack their inputs")
    return {"rows": rows, "answered": answered}


def journal(folder: Path) -> Path:
    """Our service's journal."""
    return folder / "home" / "journal" / "bench"


def journal_bytes(folder: Path) -> int:
    """Size of the journal."""
    return sum(segment.path.stat().st_size for segment in list_segments(journal(folder)))
