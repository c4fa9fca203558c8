"""Deleting: never what serves or is the way back, for real, resumable; and what is broken is found by looking."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow_in_memory import NAME, World

from trimtab.errors import RegistryError
from trimtab.registry import pages, retention, versions
from trimtab.registry.examine import examine
from trimtab.registry.promote import promote, rollback
from trimtab.registry.retention import KEEP_TAG, clean, delete, unfinished


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Six versions; 3 served, then 5: the champion is 5, the way back 3."""
    world = World(tmp_path, monkeypatch)
    for version in range(1, 7):
        world.release(version)
    for version in (3, 5):
        promote(world.registry, NAME, version, who="test", why="better")
    return world


def remove(world: World, version: int, **more: object) -> retention.Deleted:
    return delete(world.registry, NAME, version, who="test", why="old", **more)  # type: ignore[arg-type]


def test_a_deleted_version_is_gone_with_its_files_and_the_bytes_are_told(world: World) -> None:
    assert remove(world, 1).to_json() == {"version": 1, "freed": 1000}
    assert 1 not in world.client.versions
    assert "m-1" not in world.client.models
    assert 1 not in versions.recorded(world.registry.ledger, NAME)
    entries = [item.entry for item in world.registry.ledger.read(versions.stream(NAME))][-2:]
    assert [(entry["act"], entry["version"]) for entry in entries] == [("deleting", 1), ("deleted", 1)]
    assert entries[0]["who"] == "test"


@pytest.mark.parametrize(("version", "said"), [(5, "is the champion"), (3, "is the way back")])
def test_what_serves_and_the_way_back_cannot_be_deleted(world: World, version: int, said: str) -> None:
    with pytest.raises(RegistryError, match=said):
        remove(world, version)
    assert version in world.client.versions


def test_what_is_referenced_cannot_be_deleted(world: World) -> None:
    world.client.aliases["shadow"] = 1
    world.client.versions[2].current_stage = "Staging"
    world.client.versions[4].tags[KEEP_TAG] = "audit 2026"
    for version, said in ((1, "alias 'shadow'"), (2, "stage Staging"), (4, "audit 2026"), (6, "a service answers")):
        with pytest.raises(RegistryError, match=said):
            remove(world, version, answering={6})
    assert len(world.client.versions) == 6


def test_what_is_not_ours_or_was_deleted_is_not_deleted(world: World) -> None:
    remove(world, 1)
    for version in (1, 99):
        with pytest.raises(RegistryError, match="none that trimtab registered"):
            remove(world, version)


def test_files_that_another_version_is_made_of_stay(world: World) -> None:
    world.client.versions[2].source = "models:/m-1"
    assert remove(world, 1).freed == 0
    assert "m-1" in world.client.models


def test_retention_keeps_champion_way_back_references_and_the_newest(world: World) -> None:
    world.client.aliases["shadow"] = 1
    planned = clean(world.registry, NAME, 1, who="test", dry_run=True)
    assert [(one.version, one.freed) for one in planned] == [(2, 1000), (4, 1000)]
    assert len(world.client.versions) == 6
    assert clean(world.registry, NAME, 1, who="test") == planned
    assert sorted(world.client.versions) == [1, 3, 5, 6]
    assert clean(world.registry, NAME, 1, who="test") == []


def test_keeping_none_of_the_newest_keeps_what_serves(world: World) -> None:
    clean(world.registry, NAME, 0, who="test")
    assert sorted(world.client.versions) == [3, 5]
    assert rollback(world.registry, NAME, who="test", why="errors").version == 3


@pytest.mark.parametrize("dies", ["delete_model_version", "get_logged_model"])
def test_a_deletion_cut_short_counts_as_deleted_and_is_finished_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(world.client, dies, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            remove(world, 1)
    assert list(unfinished(world.registry, NAME)) == [1]
    with pytest.raises(RegistryError, match="no record"):
        promote(world.registry, NAME, 1, who="test", why="it is back")
    assert any("deletion of version 1 was cut short" in line for line in examine(world.registry, NAME))
    assert "version 1" in retention.finish(world.registry, NAME)[0]
    assert unfinished(world.registry, NAME) == {}
    assert 1 not in world.client.versions
    assert "m-1" not in world.client.models
    assert retention.finish(world.registry, NAME) == []


def test_each_promotion_is_on_the_pages_of_both_versions(world: World) -> None:
    assert "# Version 3" in world.client.versions[3].description
    assert world.client.versions[3].description.count("| promote |") == 2  # it came, and it went
    assert world.client.versions[5].description.count("| promote |") == 1
    assert "## History" not in world.client.versions[1].description


def test_pages_that_a_crash_left_behind_are_written_by_the_next_step(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(world.client, "update_model_version", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            promote(world.registry, NAME, 6, who="test", why="newest")
    assert world.client.aliases["champion"] == 6
    assert promote(world.registry, NAME, 6, who="test", why="again").version == 6
    assert world.client.versions[6].description.count("| promote |") == 1
    assert pages.renew(world.registry, NAME) == []


def test_a_registry_in_order_has_nothing_to_find(world: World) -> None:
    assert examine(world.registry, NAME) == []


def found(world: World) -> str:
    return "\n".join(examine(world.registry, NAME))


def test_wiped_files_are_found_and_what_they_mean_is_said(world: World) -> None:
    world.broken = {5: "files are missing", 3: "model.onnx was changed", 2: "lacks model.onnx"}
    said = found(world)
    assert "version 5 is the champion, but must not serve: files are missing" in said
    assert "version 3 is the way back, but must not serve: model.onnx was changed" in said
    assert "version 2 cannot be promoted: lacks model.onnx" in said


def test_a_champion_deleted_by_hand_and_a_dangling_alias_are_found(world: World) -> None:
    world.client.delete_model_version(NAME, "5")
    assert "the alias 'champion' is at None, the ledger says 5" in found(world)
    world.client.aliases["champion"] = 77
    assert "points at version 77, which does not exist" in found(world)


def test_a_version_that_calls_itself_ready_without_a_record_is_found(world: World) -> None:
    world.client.versions[7] = SimpleNamespace(**{**vars(world.client.versions[6]), "version": "7"})
    assert "version 7 calls itself READY, but was never registered whole" in found(world)


def test_an_old_version_that_somebody_deleted_in_mlflow_is_no_problem(world: World) -> None:
    world.client.delete_model_version(NAME, "2")
    assert examine(world.registry, NAME) == []


def test_stages_that_a_hand_moved_are_found(world: World) -> None:
    world.client.versions[2].current_stage = "Production"
    assert "versions [2, 5] are in stage Production, the champion is 5" in found(world)


def test_a_version_registered_again_after_its_deletion_was_cut_short_is_not_deleted_later(world: World) -> None:
    stream = f"versions/{NAME}"
    world.registry.ledger.record(stream, {"act": "deleting", "version": 1}, None)
    assert list(unfinished(world.registry, NAME)) == [1]
    world.registry.ledger.record(stream, {"act": "registered", "version": 1, "release_key": "k", "evidence": "e"}, None)
    assert unfinished(world.registry, NAME) == {}
