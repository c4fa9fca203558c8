"""The registry against a real MLflow server: whole or not at all, once, one champion, also after `kill -9` anywhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.registry.servers import QUIET, mlflow_server
from benchmarks.registry.world import World, in_process, killed_at, pack_release, points_of
from trimtab.errors import Conflict, RegistryError
from trimtab.journal.comparisons import Comparisons
from trimtab.journal.outcomes import Outcome
from trimtab.ledger import Ledger
from trimtab.registry import contents, failpoint, follow, pages, versions
from trimtab.registry.alias import aliases
from trimtab.registry.challenge import challenge, clear, how_tried
from trimtab.registry.challenges import read_challenges
from trimtab.registry.connection import Registry
from trimtab.registry.evidence import Unproven
from trimtab.registry.examine import examine
from trimtab.registry.history import changes
from trimtab.registry.promote import champion, history, promote, reconcile, rollback
from trimtab.registry.promotions import read_log
from trimtab.registry.register import register
from trimtab.registry.resign import sign_version
from trimtab.registry.retention import delete
from trimtab.registry.staging import stage
from trimtab.registry.sweep import sweep
from trimtab.registry.tracking import Tracking

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for key, value in QUIET.items():
            patch.setenv(key, value)
        with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
            yield address


@pytest.fixture
def world(server: str, tmp_path: Path, request: pytest.FixtureRequest) -> World:
    return World(server, tmp_path, f"m-{abs(hash((request.node.name, str(tmp_path)))) % 10**10}")


def test_a_release_is_registered_once_whole_and_readable_by_everyone(
    world: World, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    import mlflow

    version = world.release(0.5)
    assert not [one for one in recwarn if "type hints" in str(one.message)]  # MLflow's advice; nothing to act on
    assert world.release(0.5) == version
    assert world.versions(0.5) == [version]
    found = world.registry.client.get_model_version(world.name, str(version))
    assert found.description.startswith("# A release")
    assert found.tags["trimtab.gate"] == "passed"
    assert found.tags["trimtab.target"] == "onnxruntime-cpu"
    assert found.tags["speedup"] == "2.0"
    world.promote(version)
    facts = follow.download(world.server, world.name, version, tmp_path / "into", world.registry.keys)
    assert facts["name"] == world.name
    assert (tmp_path / "into" / "häßlich č.txt").read_text() == "a name that is not ASCII"
    mlflow.set_tracking_uri(world.server)
    model = mlflow.pyfunc.load_model(f"models:/{world.name}@champion")
    answer = model.predict({"input": np.ones((2, 3), np.float32)})
    np.testing.assert_allclose(answer["probabilities"], np.full((2, 2), 3.5))
    assert model.metadata.signature.inputs.input_names() == ["input"]
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 3)
    assert model.metadata.get_input_schema().inputs[0].type == np.dtype("float32")
    assert str(tmp_path) not in json.dumps(model.metadata.to_dict(), default=str)


def test_a_second_release_in_the_process_runs_its_own_code(world: World) -> None:
    import mlflow

    mlflow.set_tracking_uri(world.server)
    answers = []
    for mark in (1.0, 2.0):
        model = mlflow.pyfunc.load_model(f"models:/{world.name}/{world.release(mark)}")
        answers.append(float(model.predict({"input": np.zeros((1, 3), np.float32)})["probabilities"][0, 0]))
    assert answers == [1.0, 2.0]


def test_a_release_that_did_not_pass_or_was_changed_is_not_registered(world: World) -> None:
    for answer in ("fail", "undecided"):
        with pytest.raises(RegistryError, match=answer):
            register(world.registry, world.submission(answer=answer))
    changed = world.submission(0.25)
    (changed.folder / "weights.npy").write_bytes(b"other")
    with pytest.raises(RegistryError, match=r"weights\.npy was changed"):
        register(world.registry, changed)
    assert versions.every(world.registry.client, world.name) == []


@pytest.mark.slow
def test_killed_at_every_point_registration_ends_with_one_version_that_only_then_may_serve(world: World) -> None:
    serving = world.release(-1.0)
    world.promote(serving)
    points = points_of(lambda: world.release(-2.0))
    # Every remote call and local write of a first registration, before and after; a new one must be added here.
    assert len(points) == 20
    for mark, point in enumerate(points):
        killed_at(world, "register", float(mark), point)
        for unverified in set(world.versions(mark)) - set(versions.recorded(world.registry.ledger, world.name)):
            with pytest.raises(RegistryError, match="no record of having passed"):
                world.promote(unverified)
        version = world.release(float(mark))
        assert world.versions(mark) == [version], point
        assert world.models(mark) == ["READY"], point
        assert versions.unfit(world.registry, world.name, version) is None, point
        assert world.serves_consistently() == serving, point
    assert world.promote(version).version == version
    world.registry.ledger.check(f"versions/{world.name}")


@pytest.mark.slow
def test_killed_again_while_cleaning_up_registration_still_ends_with_one_version(world: World) -> None:
    for mark, (first, second) in enumerate(
        [
            ("register.upload:after", "register.discard_model:before"),
            ("register.create_logged_model:after", "register.discard_model:after"),
            ("register.create_model_version:after", "register.registered:before"),
            ("register.create_model_version:after", "register.registered:after"),
        ]
    ):
        killed_at(world, "register", float(mark), first)
        killed_at(world, "register", float(mark), second)
        version = world.release(float(mark))
        assert world.versions(mark) == [version]
        assert world.models(mark) == ["READY"]


def test_a_half_version_whose_files_are_gone_is_deleted_and_made_again(world: World) -> None:
    for mark, point in enumerate(("", "register.delete_half_version:before", "register.delete_half_version:after")):
        killed_at(world, "register", float(mark), "register.create_model_version:after")
        (half,) = world.versions(mark)
        source = world.registry.client.get_model_version(world.name, str(half)).source
        world.registry.client.delete_logged_model(source.removeprefix("models:/"))
        if point:
            killed_at(world, "register", float(mark), point)
        version = world.release(float(mark))
        assert world.versions(mark) == [version]
        assert versions.unfit(world.registry, world.name, version) is None


@pytest.mark.slow
def test_killed_at_every_point_a_promotion_is_finished_or_never_was(world: World) -> None:
    old, new, third = (world.release(float(mark)) for mark in range(3))
    world.promote(third)
    world.promote(old)
    points = points_of(lambda: world.promote(new))
    assert len(points) == 16
    for point in points:
        before = champion(world.registry, world.name)
        assert before is not None
        target = old if before.version == new else new
        killed_at(world, "promote", target, point)
        notes = reconcile(world.registry, world.name)
        # After "promoted" only the pages in MLflow are behind, which is put right without a word.
        finished = 0 < points.index(point) < points.index("promote.promoted:after")
        assert [("cut short and was finished" in note) for note in notes] == ([True] if finished else []), point
        expected = before.version if point == "promote.intent:before" else target
        assert world.serves_consistently() == expected, point
        assert reconcile(world.registry, world.name) == []
        assert pages.renew(world.registry, world.name) == []
        history_on_page = client_page(world, target).partition(pages.HEADING)[2]
        assert history_on_page.count("\n| 2") == sum(
            target in (item["version"], item["previous"]) for item in history(world.registry, world.name)
        ), point


@pytest.mark.slow
def test_killed_at_every_point_a_rollback_happens_exactly_once_when_asked_again(world: World) -> None:
    good, bad = world.release(0.0), world.release(1.0)
    world.promote(good)
    world.promote(bad)
    points = points_of(lambda: rollback(world.registry, world.name, who="test", why="errors", bad_version=bad))
    assert len(points) == 16
    assert world.serves_consistently() == good
    for point in points:
        world.promote(bad)
        depth = len(read_log(world.registry.ledger, world.name).serving)
        killed_at(world, "rollback", bad, point)
        again = rollback(world.registry, world.name, who="test", why="errors", bad_version=bad)
        assert (again.kind, again.version, again.previous) == ("rollback", good, bad), point
        assert world.serves_consistently() == good, point
        assert len(read_log(world.registry.ledger, world.name).serving) == depth - 1, point


def test_a_promotion_cut_short_whose_version_is_gone_is_undone(world: World) -> None:
    old, new = world.release(0.0), world.release(1.0)
    world.promote(old)
    for point in ("", "promote.undone:before", "promote.undone:after"):
        killed_at(world, "promote", new, "promote.alias_champion:after")
        world.registry.client.delete_model_version(world.name, str(new))
        if point:
            killed_at(world, "reconcile", None, point)
        reconcile(world.registry, world.name)
        assert world.serves_consistently() == old
        new = world.release(1.0)


def test_three_promotions_and_a_rollback_leave_one_production_and_a_full_record(world: World) -> None:
    first, second = world.release(0.0), world.release(1.0)
    with pytest.raises(RegistryError, match="no earlier version"):
        rollback(world.registry, world.name, who="test", why="errors")
    world.promote(first)
    promotion = world.promote(second)
    assert (promotion.version, promotion.previous, promotion.who) == (second, first, "test")
    assert world.promote(second) == promotion
    assert aliases(world.registry.client, world.name) == {"champion": second, "previous": first}
    assert world.stages("Archived") == [first]
    back = rollback(world.registry, world.name, who="watch", why="errors after promotion")
    assert (back.version, back.previous) == (first, second)
    # Stages mean the highest version in them: the newer one must have left Production.
    assert world.registry.client.get_latest_versions(world.name, ["Production"])[0].version == str(first)
    assert world.serves_consistently() == first
    assert [(item["kind"], item["version"]) for item in history(world.registry, world.name)] == [
        ("promote", first),
        ("promote", second),
        ("rollback", first),
    ]
    assert history(world.registry, world.name)[1]["evidence"] == {"report": "r"}
    with pytest.raises(Conflict):
        rollback(world.registry, world.name, who="watch", why="again", bad_version=99)


def test_rollback_passes_over_a_version_whose_files_are_gone(world: World) -> None:
    first, second, third = (world.release(float(mark)) for mark in range(3))
    for version in (first, second, third):
        world.promote(version)
    source = world.registry.client.get_model_version(world.name, str(second)).source
    world.registry.client.delete_logged_model(source.removeprefix("models:/"))
    assert rollback(world.registry, world.name, who="test", why="errors").version == first
    with pytest.raises(RegistryError, match="was deleted"):
        world.promote(second)


def test_an_alias_moved_by_hand_is_honoured_if_the_version_passed_and_put_back_if_not(world: World) -> None:
    client = world.registry.client
    first, second = world.release(0.0), world.release(1.0)
    world.promote(first)
    client.set_registered_model_alias(world.name, "champion", str(second))
    (note,) = reconcile(world.registry, world.name)
    assert "honoured" in note
    assert world.serves_consistently() == second
    assert history(world.registry, world.name)[-1]["outside"] is True
    unverified = world.made_by_hand()
    client.set_registered_model_alias(world.name, "champion", str(unverified))
    (note,) = reconcile(world.registry, world.name)
    assert "put back to 2" in note
    assert world.serves_consistently() == second
    client.delete_registered_model_alias(world.name, "champion")
    (note,) = reconcile(world.registry, world.name)
    assert "put back" in note
    assert world.serves_consistently() == second
    assert reconcile(world.registry, world.name) == []


def client_page(world: World, version: int) -> str:
    return str(world.registry.client.get_model_version(world.name, str(version)).description)


def replace_file(world: World, version: int, file: str, content: bytes | None) -> None:
    """What somebody who can write to the artifact store does: change a file of a version, or delete it."""
    model_id = world.registry.client.get_model_version(world.name, str(version)).source.removeprefix("models:/")
    root = world.registry.client.get_logged_model(model_id).artifact_location.partition("mlflow-artifacts:")[2]
    address = f"{world.server}{follow.ARTIFACTS}/{quote(root.strip('/'))}/{quote(file)}"
    answer = httpx.delete(address) if content is None else httpx.put(address, content=content)
    assert answer.status_code == 200, answer.text


def test_a_version_is_signed_whole_and_every_change_to_it_is_refused_by_name(world: World, tmp_path: Path) -> None:
    good, bad = world.release(0.0), world.release(1.0)
    world.promote(good)
    changes = (
        ("artifacts/release/weights.npy", b"other", "weights.npy was changed"),
        ("loader.py", b"import os", "loader.py was changed"),
        ("artifacts/release/evil.txt", b"x", "evil.txt is not signed"),
        ("signature.json", b"{}", "signature.json"),
        ("artifacts/release/signature.json", None, "signature.json"),
    )
    for mark, (file, content, said) in enumerate(changes, start=2):
        replace_file(world, bad, file, content)
        with pytest.raises(RegistryError) as caught:
            world.promote(bad)
        assert said in str(caught.value)
        bad = world.release(float(mark))
    assert world.serves_consistently() == good
    replace_file(world, good, "artifacts/release/weights.npy", b"other")
    with pytest.raises(RegistryError, match=r"weights\.npy was changed"):
        follow.download(world.server, world.name, good, tmp_path / "into", world.registry.keys)
    assert any("must not serve" in line for line in examine(world.registry, world.name))


def test_a_version_of_a_revoked_key_is_refused_until_it_is_signed_again(world: World, tmp_path: Path) -> None:
    version = world.release(0.0)
    world.promote(version)
    keys = world.registry.keys
    old = keys.every()[0].fingerprint
    keys.rotate()
    keys.revoke(old)
    for folder in ("first", "second"):
        if folder == "second":
            signer, _ = sign_version(world.registry, world.name, version, who="test")
            assert signer == keys.every()[0].fingerprint
            follow.download(world.server, world.name, version, tmp_path / folder, keys)
            follow.download_model(world.server, world.name, version, tmp_path / "model", keys)
        else:
            with pytest.raises(RegistryError, match="was revoked"):
                follow.download(world.server, world.name, version, tmp_path / folder, keys)
    assert examine(world.registry, world.name) == []


def test_a_deleted_version_leaves_no_files_and_what_serves_is_kept(world: World) -> None:
    first, second, third = (world.release(float(mark)) for mark in range(3))
    world.promote(first)
    world.promote(second)
    client = world.registry.client
    model_id = client.get_model_version(world.name, str(third)).source.removeprefix("models:/")
    repository = contents.artifacts(client, world.server, model_id)
    for kept in (first, second):
        with pytest.raises(RegistryError, match="is the"):
            delete(world.registry, world.name, kept, who="test", why="old")
    freed = delete(world.registry, world.name, third, who="test", why="old").freed
    assert freed > 1000
    assert repository.list_artifacts(None) == []
    assert [int(found.version) for found in versions.every(client, world.name)] == [first, second]
    again = world.release(2.0)
    assert again not in (first, second, third)
    assert world.serves_consistently() == second
    assert examine(world.registry, world.name) == []


@pytest.mark.slow
def test_killed_at_every_point_a_deletion_is_finished_by_the_next_sweep(world: World) -> None:
    world.promote(world.release(-1.0))
    points = points_of(lambda: delete(world.registry, world.name, world.release(-2.0), who="test", why="old"))
    mine = [point for point in points if point.startswith("delete.")]
    assert len(mine) == 8
    for mark, point in enumerate(mine):
        version = world.release(float(mark))
        killed_at(world, "delete", version, point)
        sweep(world.registry, world.experiment, world.name, alive={"release-1"})
        gone = point != "delete.intent:before"
        assert (version in versions.recorded(world.registry.ledger, world.name)) is not gone, point
        assert (versions.find(world.registry.client, world.name, version) is None) is gone, point
        assert world.models(float(mark)) == ([] if gone else ["READY"]), point
        assert examine(world.registry, world.name) == [], point


def test_a_version_moves_to_staging_and_archived_with_a_record_and_what_serves_does_not(world: World) -> None:
    first, second = world.release(0.0), world.release(1.0)
    world.promote(first)
    moved = stage(world.registry, world.name, second, "Staging", who="test", why="to be looked at")
    assert moved is not None
    assert (moved.before, moved.to) == ("None", "Staging")
    assert stage(world.registry, world.name, second, "Staging", who="test", why="again") is None
    assert world.stages("Staging") == [second]
    assert world.serves_consistently() == first
    assert "to Staging" in client_page(world, second)
    with pytest.raises(RegistryError, match="serves; it leaves Production when"):
        stage(world.registry, world.name, first, "Archived", who="test", why="x")
    with pytest.raises(RegistryError, match="does not exist"):
        stage(world.registry, world.name, 99, "Staging", who="test", why="x")
    with pytest.raises(RegistryError, match="no record of having passed"):
        stage(world.registry, world.name, world.made_by_hand(), "Staging", who="test", why="x")
    world.promote(second)
    assert world.stages("Staging") == []
    assert world.stages("Archived") == [first]
    with pytest.raises(RegistryError, match="is in Archived, from where it may go to Staging, Production, not to None"):
        stage(world.registry, world.name, first, "None", who="test", why="x")
    kinds = [change.kind for change in changes(world.registry.ledger, world.name)]
    assert kinds == ["promote", "to Staging", "promote"]


@pytest.mark.slow
def test_killed_at_every_point_a_move_to_a_stage_is_finished_or_never_was(world: World) -> None:
    serving, moved = world.release(0.0), world.release(1.0)
    world.promote(serving)
    points = points_of(lambda: stage(world.registry, world.name, moved, "Staging", who="test", why="looked at"))
    assert points[0] == "promote.staging:before"
    for point in points:
        now, target = ("Staging", "Archived") if world.stages("Staging") else ("Archived", "Staging")
        killed_at(world, f"to {target}", moved, point.replace("stage_Staging", f"stage_{target}"))
        reconcile(world.registry, world.name)
        begun = point != "promote.staging:before"
        assert world.stages(target if begun else now) == [moved], point
        assert world.serves_consistently() == serving, point
        assert reconcile(world.registry, world.name) == []


def test_a_move_cut_short_whose_version_serves_by_now_is_given_up(world: World) -> None:
    first, second = world.release(0.0), world.release(1.0)
    world.promote(first)
    killed_at(world, "to Staging", second, "promote.staging:after")
    world.registry.client.transition_model_version_stage(world.name, str(second), "Production")
    notes = reconcile(world.registry, world.name)
    assert "the move of version 2 to Staging was undone: it serves" in notes[0]
    assert world.serves_consistently() == second


def test_a_champion_deleted_in_mlflow_is_told_and_a_rollback_still_works(world: World) -> None:
    first, second = world.release(0.0), world.release(1.0)
    world.promote(first)
    world.promote(second)
    world.registry.client.delete_model_version(world.name, str(second))
    (note,) = reconcile(world.registry, world.name)
    assert "nothing is champion" in note
    assert champion(world.registry, world.name) is None
    rollback(world.registry, world.name, who="test", why="version deleted")
    assert world.serves_consistently() == first


def test_eight_processes_register_once_each_and_promote_to_exactly_one_production(world: World) -> None:
    for mark in range(6):
        world.submission(mark)
    racers = [in_process(world, "register", float(number % 6)) for number in range(8)]
    _all_end_well(racers)
    made = [world.versions(mark) for mark in range(6)]
    assert sorted(version for found in made for version in found) == [1, 2, 3, 4, 5, 6]
    _all_end_well([in_process(world, "promote", version) for version in (1, 2, 3, 4)])
    assert world.serves_consistently() in (1, 2, 3, 4)
    assert len(history(world.registry, world.name)) == 4


def _all_end_well(processes: list[Any]) -> None:
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_a_killed_release_goes_on_in_its_own_run_and_children_are_made_once(world: World, tmp_path: Path) -> None:
    tracking, client = world.tracking, world.registry.client
    tracking.finish(world.run, "KILLED")
    again = tracking.start_release_run(world.experiment, "release-1", "release", {"seed": 1}, {"recipe": "digits"})
    assert again == world.run
    assert client.get_run(again).info.status == "RUNNING"
    half = client.create_run(
        world.experiment, tags={"mlflow.parentRunId": again, "trimtab.candidate_key": "c1"}, run_name="half"
    )
    knobs, objectives = {"prune.ratio": None, "lr": 0.1}, {"speedup": 2.0, "accuracy": 0.9}
    child = tracking.child_run(again, "c1", "int8", knobs, objectives, {"mlflow.note.content": "x"})
    assert child == half.info.run_id
    assert tracking.child_run(again, "c1", "int8", knobs, objectives, {}) == child
    data = client.get_run(child)
    assert data.info.status == "FINISHED"
    assert data.data.params == {"prune.ratio": "none", "lr": "0.1"}
    assert data.data.metrics == objectives
    with pytest.raises(RegistryError, match="not finite"):
        tracking.child_run(again, "c2", "bad", {}, {"speedup": float("nan")}, {})
    with pytest.raises(RegistryError, match="MLflow refused"):
        tracking.start_release_run(world.experiment, "release-1", "release", {"seed": 2}, {})


def test_racing_callers_get_one_experiment_one_parent_and_one_child(world: World) -> None:
    def make(_: int) -> tuple[str, str, str]:
        tracking = Tracking(world.server, world.folder / "locks")
        experiment = tracking.experiment(f"{world.name}-race")
        parent = tracking.start_release_run(experiment, "k", "release", {"a": 1}, {})
        return experiment, parent, tracking.child_run(parent, "c", "child", {"b": 2}, {"m": 1.0}, {})

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(make, range(6)))) == 1


def test_figures_texts_files_datasets_and_system_metrics_reach_the_run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    tracking, client, run = world.tracking, world.registry.client, world.run
    figure = Figure()
    figure.subplots().plot([0, 1])
    tracking.log_figure(run, figure, "plots/pareto.png")
    tracking.log_text(run, "<p>é</p>", "report.html")
    (tmp_path / "file.json").write_text("{}")
    tracking.log_artifact(run, tmp_path / "file.json", "evidence")
    tracking.log_dataset_input(run, "digits/gate", "a" * 64, context="gate", source="data:load", profile={"rows": 3})
    tracking.log_metrics(run, {"gate.accuracy": 0.5})
    tracking.set_tags(run, {"outcome": "pass"})
    with tracking.system_metrics(run):
        while not any(key.startswith("system/") for key in client.get_run(run).data.metrics):
            threading.Event().wait(0.1)
    tracking.finish(run)
    found = client.get_run(run)
    assert {item.path for item in client.list_artifacts(run)} == {"plots", "report.html", "evidence"}
    assert found.inputs.dataset_inputs[0].dataset.name == "digits/gate"
    assert found.inputs.dataset_inputs[0].tags[0].value == "gate"
    assert found.data.metrics["gate.accuracy"] == 0.5
    assert found.data.tags["outcome"] == "pass"
    assert found.info.status == "FINISHED"
    assert "system/cpu_utilization_percentage" in found.data.metrics


def test_a_deleted_experiment_is_named_with_what_to_do(world: World) -> None:
    world.registry.client.delete_experiment(world.experiment)
    with pytest.raises(RegistryError, match="was deleted"):
        world.tracking.experiment(world.name)


def test_sweep_ends_what_dead_releases_left_and_touches_nothing_else(world: World) -> None:
    client, tracking = world.registry.client, world.tracking
    whole = world.release(0.0)
    killed_at(world, "register", 1.0, "register.upload:after")
    killed_at(world, "register", 2.0, "register.create_model_version:after")
    killed_at(world, "register", 3.0, "register.create_model_version:after")
    (pointed_at,) = world.versions(3)
    client.set_registered_model_alias(world.name, "someone", str(pointed_at))
    foreign = world.made_by_hand()
    alive = tracking.start_release_run(world.experiment, "alive", "alive", {}, {})
    child = client.create_run(world.experiment, tags={"mlflow.parentRunId": alive}).info.run_id
    orphan = client.create_run(world.experiment, tags={"mlflow.parentRunId": world.run}).info.run_id
    theirs = client.create_run(world.experiment).info.run_id
    sweep(world.registry, world.experiment, world.name, alive={"alive"})
    statuses = {run: client.get_run(run).info.status for run in (world.run, orphan, alive, child, theirs)}
    assert statuses == {
        world.run: "KILLED",
        orphan: "KILLED",
        alive: "RUNNING",
        child: "RUNNING",
        theirs: "RUNNING",
    }
    assert world.models(1.0) == []
    kept = [int(version.version) for version in versions.every(client, world.name)]
    assert kept == [whole, pointed_at, foreign]
    again = sweep(world.registry, world.experiment, world.name, alive={"alive"})
    assert [note for note in again if "left as it is" not in note] == []
    assert world.release(1.0) == world.versions(1.0)[0]


def test_a_server_that_does_not_answer_is_an_error_of_ours(tmp_path: Path, server: str) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'l.db'}")
    registry = Registry.connect("http://127.0.0.1:9", ledger, tmp_path / "locks", tmp_path / "keys")
    with pytest.raises(RegistryError, match="did not answer"):
        champion(registry, "m")


def test_a_version_is_tried_and_promoted_only_with_the_evidence_that_it_asks_for(world: World, tmp_path: Path) -> None:
    rule = {"min_requests": 2, "min_agreement": 0.5, "max_latency_ratio": None, "max_error_rate": 0.1}
    serving = {"shadow": {"percent": 100, "tolerance": 0.1}, "promotion": rule}
    pack_release(tmp_path / "converted-2.0", tmp_path / "release-2.0", world.name, 2.0, serving=serving)
    first, second = world.release(1), world.release(2)
    world.promote(first)
    registry, name = replace(world.registry, comparisons=tmp_path / "comparisons"), world.name
    challenge(registry, name, second, who="test", why="try it")
    assert follow.version_under(world.server, name, "challenger") == second
    assert how_tried(registry, name, second) == "runs copies of 100 %"
    with pytest.raises(Unproven, match="0 shadow requests, 2 are needed"):
        promote(registry, name, second, who="test", why="at once")
    assert world.serves_consistently() == first

    comparisons = Comparisons(tmp_path / "comparisons" / name)
    for request in ("a", "b"):
        comparisons.add(Outcome("shadow", str(first), str(second), request, 1, rows=4, agreed=4))
    comparisons.close()
    done = promote(registry, name, second, who="test", why="it agrees")
    assert (done.evidence["comparison"]["agreement"], done.evidence["missing"]) == (1.0, [])
    assert follow.version_under(world.server, name, "challenger") is None
    assert world.serves_consistently() == second


def test_a_challenge_cut_short_at_any_point_is_finished_or_never_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = world.release(1), world.release(2)
    world.promote(first)

    class Cut(Exception):
        pass

    def at(point: str) -> Callable[[str], None]:
        def reach(name: str) -> None:
            if name == point:
                raise Cut

        return reach

    names = ("challenge.intent", "promote.alias_challenger", "challenge.done")
    for point in [f"{name}:{when}" for name in names for when in ("before", "after")]:
        for act, wanted in (
            (lambda: challenge(world.registry, world.name, second, who="test", why="try"), second),
            (lambda: clear(world.registry, world.name, who="test", why="enough"), None),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(failpoint, "reach", at(point))
                with pytest.raises(Cut):
                    act()
            said = reconcile(world.registry, world.name)
            never = point == "challenge.intent:before"
            assert bool(said) == (not never and point != "challenge.done:after"), point
            assert read_challenges(world.registry.ledger, world.name).pending is None
            if never:
                act()
            assert follow.version_under(world.server, world.name, "challenger") == wanted
            assert read_challenges(world.registry.ledger, world.name).version == wanted
