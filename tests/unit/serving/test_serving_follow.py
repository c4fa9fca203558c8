"""Following the champion: taken when it is good, refused with the reason when it is not, never a gap."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from trimtab.serving.follow import Follower
from trimtab.serving.metrics import Metrics
from trimtab.serving.release import Loaded, ReleaseRefused, check_manifest, load_release

SPEC = {
    "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 2]}],
    "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 2]}],
}
ROWS = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)


class Identity:
    """Answers its input, plus what the release folder says it is off by."""

    spec, reentrant = SPEC, True

    def __init__(self, off: float):
        self.off, self.calls = off, 0

    def predict(self, inputs):
        self.calls += 1
        return {"probabilities": inputs["input"] + np.float32(self.off)}


def load_identity(target: str, folder: Path, threads: int) -> Identity:
    return Identity(float((folder / "model.txt").read_text()))


def write_release(folder: Path, off: float = 0.0, recorded=ROWS, **facts) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.txt").write_text(str(off))
    (folder / "spec.json").write_text(json.dumps(SPEC))
    whole = {"name": "tiny", "target": "fake", "precision": "fp32", "classes": 2, **facts}
    (folder / "release.json").write_text(json.dumps(whole))
    np.savez(folder / "golden.npz", **{"inputs/input": ROWS, "outputs/probabilities": recorded})
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    (folder / "manifest.json").write_text(json.dumps(digests))
    return folder


def load(folder: Path, version: str):
    return load_release(folder, version, load=load_identity)


class Registry:
    """A registry in memory: the champion, and how each version's folder is written."""

    def __init__(self):
        self.champion, self.down, self.downloads = None, False, []
        self.releases = {}

    def current(self):
        if self.down:
            raise ConnectionError("registry is down")
        return self.champion

    def download(self, version, into):
        self.downloads.append(version)
        if not into.exists():
            write_release(into, **self.releases.get(version, {}))


class World:
    """A follower on a registry in memory, stepped by hand."""

    def __init__(self, folder: Path, registry: Registry | None = None):
        self.registry, self.served, self.metrics = registry or Registry(), [], Metrics()
        self.follower = Follower(
            self.registry, folder, load, self.served.append,
            lambda: self.served[-1].version if self.served else None, self.metrics,
        )  # fmt: skip

    def step(self, champion=None, *, down=False):
        if champion is not None:
            self.registry.champion = champion
        self.registry.down = down
        self.follower._retry_at = 0.0
        self.follower.step()
        return [release.version for release in self.served]


def test_a_good_release_is_loaded_warmed_and_has_its_limits(tmp_path):
    release = load(write_release(tmp_path / "r", serving={"max_queue": 3}), "5")
    assert (release.version, release.limits.max_queue, release.classes) == ("5", 3, 2)
    assert release.predictor.calls >= 2


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"off": 0.01}, "differ from the recorded ones by up to 0.01"),
        ({"off": float("nan")}, "not finite"),
        ({"recorded": np.zeros((2, 3), np.float32)}, "recorded"),
        ({"serving": {"threads": 0}}, "threads"),
        ({"classes": None}, "cannot be loaded"),
        ({"precision": "fp8"}, "cannot be loaded"),
    ],
)
def test_a_release_that_does_not_answer_as_verified_is_refused_with_the_reason(tmp_path, facts, told):
    with pytest.raises(ReleaseRefused, match=told):
        load(write_release(tmp_path / "r", **facts), "5")


@pytest.mark.parametrize("damage", ["change", "add", "remove", "manifest"])
def test_a_folder_other_than_its_manifest_is_refused(tmp_path, damage):
    folder = write_release(tmp_path / "r")
    (folder / "signature.json").write_text("{}")  # as in every registered release: of the manifest, so not in it
    check_manifest(folder)
    if damage == "change":
        (folder / "model.txt").write_text("0.00")
    elif damage == "add":
        (folder / "more.txt").write_text("")
    elif damage == "remove":
        (folder / "spec.json").unlink()
    else:
        (folder / "manifest.json").write_text("[]")
    with pytest.raises(ReleaseRefused):
        load(folder, "5")


def test_the_champion_is_taken_once_and_followed(tmp_path):
    world = World(tmp_path / "releases")
    assert world.step() == []
    assert world.step(1) == ["1"]
    assert world.step() == ["1"]
    assert world.step(2) == ["1", "2"]
    assert world.registry.downloads == [1, 2]
    assert world.step(1) == ["1", "2", "1"]


def test_a_bad_champion_is_refused_the_old_one_stays_and_the_reason_is_told(tmp_path):
    world = World(tmp_path / "releases")
    world.registry.releases = {2: {"off": 0.5}}
    world.step(1)
    assert world.step(2) == ["1"]
    state = world.follower.state
    assert (state.wanted, state.refused) == (2, 2)
    assert "differ from the recorded" in state.reason
    assert world.metrics.refused._value.get() == 1
    assert world.step(3) == ["1", "3"]
    assert world.follower.state.refused is None


def test_a_refused_champion_is_tried_again_ever_more_seldom(tmp_path):
    world = World(tmp_path / "releases")
    world.registry.releases = {1: {"off": 0.5}}
    world.registry.champion = 1
    for _ in range(20):
        world.follower.step()
    assert world.registry.downloads == [1]
    world.step()
    assert world.registry.downloads == [1, 1]
    assert world.follower._retry_s == 4.0


def test_while_the_registry_is_down_the_old_one_serves(tmp_path):
    world = World(tmp_path / "releases")
    world.step(1)
    assert world.step(2, down=True) == ["1"]
    assert "registry is down" in world.follower.state.registry_error
    assert world.metrics.registry_up._value.get() == 0
    assert world.step() == ["1", "2"]
    assert world.follower.state.registry_error is None


def test_when_the_alias_is_gone_the_old_one_serves(tmp_path):
    world = World(tmp_path / "releases")
    world.step(1)
    world.registry.champion = None
    assert world.step() == ["1"]
    assert world.follower.state.wanted is None


def test_after_a_restart_without_a_registry_the_last_served_release_is_taken_from_disk(tmp_path):
    first = World(tmp_path / "releases")
    first.step(1)
    first.step(4)
    second = World(tmp_path / "releases", first.registry)
    assert second.step(down=True) == ["4"]
    assert second.step(down=True) == ["4"]
    assert second.step(5) == ["4", "5"]


def test_a_last_served_release_that_was_changed_on_disk_is_refused(tmp_path):
    first = World(tmp_path / "releases")
    first.step(4)
    (tmp_path / "releases" / "version-4" / "model.txt").write_text("0.9")
    second = World(tmp_path / "releases", first.registry)
    assert second.step(down=True) == []
    assert "model.txt" in second.follower.state.reason


def test_only_the_current_and_the_previous_release_stay_on_disk(tmp_path):
    world = World(tmp_path / "releases")
    for version in (1, 2, 3, 4):
        world.step(version)
    assert sorted(path.name for path in (tmp_path / "releases").glob("version-*")) == ["version-3", "version-4"]


def test_the_thread_outlives_a_step_that_fails(tmp_path, monkeypatch):
    world = World(tmp_path / "releases")
    world.follower._poll_s = 0.001
    calls, third = [], threading.Event()

    def fails():
        calls.append(1)
        if len(calls) == 3:
            third.set()
        raise OSError("disk full")

    monkeypatch.setattr(world.follower, "step", fails)
    world.follower.start()
    assert third.wait(10)
    world.follower.stop(5)
    assert not world.follower._thread.is_alive()


class Thousands:
    """Answers numbers, plus what it is off by."""

    spec, reentrant = SPEC, True

    def __init__(self, off: float):
        self.off = off

    def predict(self, inputs):
        return {"prediction": 1000 * inputs["input"][:, :1] + np.float32(self.off)}


@pytest.mark.parametrize(("off", "refused"), [(0.5, False), (5.0, True)])
def test_the_golden_answers_of_a_regression_are_compared_relative_to_their_scale(
    tmp_path: Path, off: float, refused: bool
) -> None:
    folder = write_release(tmp_path / "release", off, task="regression", outputs=1, classes=None)
    np.savez(folder / "golden.npz", **{"inputs/input": ROWS, "outputs/prediction": 1000 * ROWS[:, :1]})

    def load_numbers() -> Loaded:
        return load_release(folder, "1", check=lambda _: None, load=lambda *_: Thousands(off))

    if refused:
        with pytest.raises(ReleaseRefused, match="golden rows: answers differ"):
            load_numbers()
    else:
        loaded = load_numbers()
        assert (loaded.output, loaded.classes, loaded.regression) == ("prediction", 1, True)
