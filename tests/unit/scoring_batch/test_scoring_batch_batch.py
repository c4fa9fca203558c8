"""A whole batch: finished, interrupted at any moment and resumed, refused, journalled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from batch_world import Shares, loaded, order, read, release, rows_of, run, write

from trimtab.client import ScoringClient, Unavailable
from trimtab.errors import Conflict, DataError, RecipeError, StateError
from trimtab.journal.reader import end, window
from trimtab.journal.wal import Journal
from trimtab.scoring_batch import batch as module
from trimtab.scoring_batch.answering import Here, Journalled, Service
from trimtab.scoring_batch.batch import open_batch, part_rows
from trimtab.settings import Settings

ROWS = 50


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_ROWS", 8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "data" / "a.parquet", rows_of(23), group=10)
    write(tmp_path / "data" / "b.parquet", rows_of(27, 23), first=23, group=100)
    return tmp_path / "data"


def expected(rows: int = ROWS) -> np.ndarray:
    values = rows_of(rows)
    return values / values.sum(axis=1, keepdims=True)


def test_every_row_is_scored_once_in_order(tmp_path: Path, data: Path) -> None:
    output = tmp_path / "out.parquet"

    summary = run(order(data, output), tmp_path / "release")

    found = read(output)
    assert found["id"] == list(range(ROWS))
    np.testing.assert_array_equal(np.array(found["probabilities"], np.float32), expected())
    assert set(found["version"]) == {"3"}
    assert (summary.rows, summary.bad, summary.resumed) == (ROWS, 0, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out.parquet", "release"]


def test_the_output_says_what_it_was_made_of(tmp_path: Path, data: Path) -> None:
    run(order(data, tmp_path / "out.parquet"), tmp_path / "release")

    told = json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[b"trimtab"])
    assert (told["name"], told["version"], told["rows"], told["bad"]) == ("tiny", 3, ROWS, 0)
    assert [entry[0] for entry in told["inputs"]] == ["a.parquet", "b.parquet"]
    assert len(told["release_key"]) == 64


def test_a_dataset_without_rows_gives_an_output_without_rows(tmp_path: Path) -> None:
    write(tmp_path / "in.parquet", rows_of(0))

    assert run(order(tmp_path / "in.parquet", tmp_path / "out.parquet"), tmp_path / "release").rows == 0
    assert read(tmp_path / "out.parquet") == {"id": [], "probabilities": [], "predicted": [], "version": []}


class Interrupted(Here):
    """Breaks off at a call."""

    def __init__(self, model: Any, calls: int) -> None:
        super().__init__(model)
        self.left = calls

    def answer(self, inputs: Any, request_id: str) -> Any:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().answer(inputs, request_id)


@pytest.mark.parametrize(("calls", "durable"), [(0, 0), (1, 0), (2, 8), (4, 8), (5, 16), (9, 24), (13, 32)])
def test_an_interrupted_run_goes_on_after_its_last_durable_part(
    tmp_path: Path, data: Path, calls: int, durable: int
) -> None:
    asked = order(data, tmp_path / "out.parquet")
    with pytest.raises(KeyboardInterrupt):
        run(asked, tmp_path / "release", answering=lambda model: Interrupted(model, calls))
    assert not asked.output.exists()

    model = Shares()
    summary = run(asked, tmp_path / "release", loaded(predictor=model))

    assert summary.resumed == durable
    assert sum(model.calls) == ROWS - durable
    uninterrupted = order(data, tmp_path / "other.parquet")
    run(uninterrupted, tmp_path / "release")
    assert read(asked.output) == read(uninterrupted.output)


@pytest.mark.parametrize("harm", ["cut", "gone", "other"])
def test_a_part_that_is_not_what_the_manifest_says_is_done_again(tmp_path: Path, data: Path, harm: str) -> None:
    asked = order(data, tmp_path / "out.parquet")
    with pytest.raises(KeyboardInterrupt):
        run(asked, tmp_path / "release", answering=lambda model: Interrupted(model, 13))
    part = tmp_path / ".out.parquet.scoring" / "part-00001.parquet"
    if harm == "cut":
        part.write_bytes(part.read_bytes()[:-1])
    elif harm == "gone":
        part.unlink()
    else:
        part.write_bytes((part.parent / "part-00000.parquet").read_bytes())

    summary = run(asked, tmp_path / "release")

    assert summary.resumed == 24
    assert read(asked.output)["id"] == list(range(ROWS))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
import batch_world
from trimtab.scoring_batch import batch, work
batch.PART_ROWS = 8
point, at = sys.argv[2], int(sys.argv[3])
count = 0

def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)

def after(function):
    def call(*arguments, **named):
        global count
        result = function(*arguments, **named)
        count += 1
        if count > at:
            die()
        return result
    return call

if point == "rename":
    work._move = after(work._move)
elif point == "manifest":
    work.write_atomic = after(work.write_atomic)
elif point == "answer":
    batch_world.Shares.predict = after(batch_world.Shares.predict)
elif point == "remove":
    work.Work.remove = die
root = Path(sys.argv[1])
batch_world.run(batch_world.order(root / "data", root / "out.parquet"), root / "release")
"""


@pytest.mark.parametrize(
    ("point", "at", "durable"),
    [
        ("answer", 0, 0), ("answer", 7, 16), ("rename", 0, 0), ("rename", 3, 24), ("rename", 6, 48), ("rename", 7, 50),
        ("manifest", 2, 24), ("manifest", 6, 50), ("manifest", 7, 50), ("remove", 0, 50),
    ],
)  # fmt: skip
def test_after_kill_9_the_next_run_ends_with_the_whole_output(
    tmp_path: Path, data: Path, point: str, at: int, durable: int
) -> None:
    paths = [str(Path(__file__).parent), *sys.path]
    code = textwrap.dedent(KILLED).format(paths=paths)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), point, str(at)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr

    asked = order(data, tmp_path / "out.parquet")
    summary = run(asked, tmp_path / "release")

    assert (summary.rows, summary.bad, summary.resumed) == (ROWS, 0, durable)
    assert read(asked.output)["id"] == list(range(ROWS))
    np.testing.assert_array_equal(np.array(read(asked.output)["probabilities"], np.float32), expected())
    assert not (tmp_path / ".out.parquet.scoring").exists()


def test_two_runs_of_one_output_are_refused(tmp_path: Path, data: Path) -> None:
    asked = order(data, tmp_path / "out.parquet")
    with (
        open_batch(asked, loaded(), release(tmp_path / "release")),
        pytest.raises(Conflict, match=r"out\.parquet is already running"),
    ):
        run(asked, tmp_path / "release")


def test_an_output_that_exists_is_not_touched(tmp_path: Path, data: Path) -> None:
    output = tmp_path / "out.parquet"
    output.write_text("somebody's")

    with pytest.raises(Conflict, match="exists already"):
        run(order(data, output), tmp_path / "release")
    assert output.read_text() == "somebody's"
    assert not (tmp_path / ".out.parquet.scoring").exists()


@pytest.mark.parametrize(
    "change", [{"version": 4}, {"batch_rows": 5}, {"on_error": "null"}, {"ignored": ("id",), "keys": ()}]
)
def test_parts_of_another_batch_are_not_mixed_in(tmp_path: Path, data: Path, change: dict[str, Any]) -> None:
    asked = order(data, tmp_path / "out.parquet")
    with pytest.raises(KeyboardInterrupt):
        run(asked, tmp_path / "release", answering=lambda model: Interrupted(model, 5))
    other = {**asked.__dict__, **change}

    with pytest.raises(Conflict, match=f"another {next(iter(change))}"):
        run(type(asked)(**other), tmp_path / "release")
    assert run(type(asked)(**other), tmp_path / "release", restart=True).resumed == 0


def test_an_input_that_changed_since_is_told(tmp_path: Path, data: Path) -> None:
    asked = order(data, tmp_path / "out.parquet")
    with pytest.raises(KeyboardInterrupt):
        run(asked, tmp_path / "release", answering=lambda model: Interrupted(model, 5))
    write(data / "a.parquet", rows_of(23, 3), group=10)

    with pytest.raises(Conflict, match="another inputs"):
        run(asked, tmp_path / "release")


def test_an_input_that_changes_meanwhile_gives_no_output(tmp_path: Path, data: Path) -> None:
    class Changing(Here):
        def answer(self, inputs: Any, request_id: str) -> Any:
            os.utime(data / "a.parquet", ns=(1, 1))
            return super().answer(inputs, request_id)

    with pytest.raises(Conflict, match="while it was read"):
        run(order(data, tmp_path / "out.parquet"), tmp_path / "release", answering=Changing)
    assert not (tmp_path / "out.parquet").exists()


def test_an_output_inside_the_input_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(RecipeError, match="input's folder"):
        run(order(data, data / "out.parquet"), tmp_path / "release")


def spoilt(path: Path) -> Path:
    values = rows_of(30)
    values[17, 1], values[22, 0] = np.nan, 13
    return write(path, values, group=10)


def test_a_bad_row_ends_the_run_with_file_row_group_and_row(tmp_path: Path) -> None:
    source = spoilt(tmp_path / "in.parquet")

    with pytest.raises(DataError, match="is not a finite float32") as caught:
        run(order(source, tmp_path / "out.parquet"), tmp_path / "release")
    assert caught.value.where == "in.parquet, row group 1, row 7"
    assert not (tmp_path / "out.parquet").exists()


def test_bad_rows_stay_without_an_answer_where_that_is_asked(tmp_path: Path) -> None:
    source = spoilt(tmp_path / "in.parquet")

    summary = run(order(source, tmp_path / "out.parquet", on_error="null"), tmp_path / "release")

    found = read(tmp_path / "out.parquet")
    assert [row for row, answer in enumerate(found["probabilities"]) if answer is None] == [17, 22]
    assert found["error"][17] == "input[1]: is not a finite float32"
    assert found["error"][22].startswith("the model failed (RuntimeError")
    assert summary.bad == 2
    assert summary.examples[0].startswith("in.parquet, row group 1, row 7: input[1]")
    assert found["id"] == list(range(30))


def test_a_model_that_fails_on_everything_is_no_bad_row(tmp_path: Path) -> None:
    write(tmp_path / "in.parquet", np.full((20, 3), 13, np.float32))

    with pytest.raises(StateError, match="fails on all of 8 rows"):
        run(order(tmp_path / "in.parquet", tmp_path / "out.parquet", on_error="null"), tmp_path / "release")


def test_progress_goes_up_to_all_rows(tmp_path: Path, data: Path) -> None:
    said: list[tuple[int, int]] = []
    model = loaded()
    with open_batch(order(data, tmp_path / "out.parquet"), model, release(tmp_path / "release")) as batch:
        batch.score(Here(model), lambda done, total, what: said.append((done, total)))

    assert said[0] == (0, ROWS)
    assert said[-1] == (ROWS, ROWS)
    assert said == sorted(said)


def test_a_part_is_whole_batches_and_fewer_where_answers_are_wide() -> None:
    assert part_rows(3, 4) == 8
    assert part_rows(3, 100) == 100


def test_wide_answers_make_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_ROWS", 65_536)

    assert part_rows(10, 1024) == 65_536
    assert part_rows(10_000, 1000) == 1000


def test_journalled_rows_are_in_the_journal_under_the_names_in_the_output(tmp_path: Path, data: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    run(
        order(data, tmp_path / "out.parquet", keep="journal"),
        tmp_path / "release",
        answering=lambda model: Journalled(model, settings),
    )

    found, kept = read(tmp_path / "out.parquet"), window(settings.journal / "tiny", 0, ROWS)
    assert kept.request_id.tolist() == found["request_id"]
    assert kept.row.tolist() == found["row"]
    assert kept.predicted.tolist() == found["predicted"]
    assert set(kept.version) == {"3"}
    np.testing.assert_array_equal(kept.inputs["input"], rows_of(ROWS))  # type: ignore[index]


def test_a_resumed_run_journals_no_row_twice(tmp_path: Path, data: Path) -> None:
    settings, asked = Settings(home=tmp_path / "home"), order(data, tmp_path / "out.parquet", keep="journal")

    class Stopped(Journalled):
        calls = 0

        def answer(self, inputs: Any, request_id: str) -> Any:
            answer = super().answer(inputs, request_id)
            Stopped.calls += 1
            if Stopped.calls == 7:  # journalled, and its part not durable
                self.close()
                raise KeyboardInterrupt
            return answer

    with pytest.raises(KeyboardInterrupt):
        run(asked, tmp_path / "release", answering=lambda model: Stopped(model, settings))
    assert end(settings.journal / "tiny") == 20
    answering = Journalled(loaded(), settings)
    assert run(asked, tmp_path / "release", answering=lambda model: answering).resumed == 16
    answering.close()

    kept = window(settings.journal / "tiny", 0, ROWS)
    assert kept.request_id.tolist() == read(asked.output)["request_id"]
    assert end(settings.journal / "tiny") == ROWS


def test_a_row_that_the_model_fails_on_is_journalled_as_a_failure(tmp_path: Path) -> None:
    settings, source = Settings(home=tmp_path / "home"), spoilt(tmp_path / "in.parquet")
    answering = Journalled(loaded(), settings)
    asked = order(source, tmp_path / "out.parquet", keep="journal", on_error="null")
    run(asked, tmp_path / "release", answering=lambda model: answering)
    answering.close()

    kept = window(settings.journal / "tiny", 0, 29)  # the row with a gap was never asked
    assert kept.errors == {"RuntimeError": 1}
    assert end(settings.journal / "tiny") == 29


def test_a_journal_that_the_service_holds_is_told_with_the_way_out(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with Journal(settings.journal / "tiny"), pytest.raises(Conflict, match="scoring service") as caught:
        Journalled(loaded(), settings)
    assert "--through-service" in caught.value.fix


def service(
    model: Shares, *, version: str = "3", journal: str = "durable", fails: int = 0
) -> tuple[ScoringClient, list[str]]:
    """A scoring service that answers as the model does; the names it was asked under."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/version":
            return httpx.Response(200, json={"name": "tiny", "version": version})
        asked.append(request.headers["X-Request-Id"])
        assert request.headers["X-Trimtab-Alias"] == "champion"
        if len(asked) <= fails:
            return httpx.Response(503, json={"error_code": "TEMPORARILY_UNAVAILABLE", "message": "busy"})
        rows = np.array(json.loads(request.content)["inputs"]["input"], np.float32)
        try:
            predictions = {name: values.tolist() for name, values in model.predict({"input": rows}).items()}
        except RuntimeError:
            return httpx.Response(500, json={"error_code": "INTERNAL_ERROR", "message": "the model failed"})
        headers = {"X-Trimtab-Version": version, "X-Trimtab-Journal": journal}
        return httpx.Response(200, json={"predictions": predictions}, headers=headers)

    return ScoringClient("http://service", retries=1, transport=httpx.MockTransport(answer)), asked


def test_the_service_answers_and_journals_and_the_output_is_the_same(tmp_path: Path, data: Path) -> None:
    client, names = service(Shares(), fails=1)
    summary = run(
        order(data, tmp_path / "out.parquet", keep="service"),
        tmp_path / "release",
        answering=lambda model: Service(model, client),
    )

    found = read(tmp_path / "out.parquet")
    np.testing.assert_array_equal(np.array(found["probabilities"], np.float32), expected())
    assert set(names) == set(found["request_id"])
    assert (summary.rows, names[0]) == (ROWS, names[1])  # the first was busy and asked again under its name


def test_bad_rows_are_found_through_the_service_too(tmp_path: Path) -> None:
    client, _ = service(Shares())
    asked = order(spoilt(tmp_path / "in.parquet"), tmp_path / "out.parquet", keep="service", on_error="null")

    assert run(asked, tmp_path / "release", answering=lambda model: Service(model, client)).bad == 2


def test_a_service_that_serves_another_version_is_not_asked(tmp_path: Path) -> None:
    client, names = service(Shares(), version="4")

    with pytest.raises(Conflict, match="version 4, not 3"):
        Service(loaded(), client)
    assert names == []


def test_a_service_that_cannot_journal_ends_the_run(tmp_path: Path, data: Path) -> None:
    client, _ = service(Shares(), journal="shed")
    asked = order(data, tmp_path / "out.parquet", keep="service")

    with pytest.raises(StateError, match="could not journal"):
        run(asked, tmp_path / "release", answering=lambda model: Service(model, client))


def test_a_service_that_is_gone_is_told_and_the_run_can_go_on(tmp_path: Path, data: Path) -> None:
    client, _ = service(Shares(), fails=100)
    asked = order(data, tmp_path / "out.parquet", keep="service")

    with pytest.raises(Unavailable, match="busy"):
        run(asked, tmp_path / "release", answering=lambda model: Service(model, client))
    client, _ = service(Shares())
    assert run(asked, tmp_path / "release", answering=lambda model: Service(model, client)).rows == ROWS
