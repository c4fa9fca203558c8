"""What the journal keeps: all, a sample, descriptors, nothing; redacted names never, hashed ones as keyed hashes."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from test_serving_app import loaded

from trimtab.descriptors import NAMES, descriptors
from trimtab.errors import RecipeError
from trimtab.journal.compact import compact
from trimtab.journal.reader import window
from trimtab.journal.wal import Journal
from trimtab.recipe.load import parse_recipe
from trimtab.serving.app import build
from trimtab.serving.keeping import Keeper, Keeping, refuse_misfit
from trimtab.serving.service import Service

INPUTS = {
    "image": np.arange(2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8),
    "user": np.array([7, -7], np.int64),
    "table": np.ones((2, 4), np.float32),
}
SPEC = [
    {"name": "image", "dtype": "float32", "shape": ["batch", 3, 8, 8]},
    {"name": "user", "dtype": "int64", "shape": ["batch"]},
    {"name": "table", "dtype": "float32", "shape": ["batch", 4]},
]


@pytest.fixture
def keeper() -> Keeper:
    return Keeper(lambda: b"s" * 32)


def test_everything_is_kept_unless_something_else_is_said(keeper: Keeper) -> None:
    kept = keeper.kept(Keeping(), INPUTS)
    assert kept is not None
    assert kept.keys() == INPUTS.keys()
    assert all(kept[name] is INPUTS[name] for name in INPUTS)
    assert keeper.kept(Keeping("none"), INPUTS) is None


def test_of_a_redacted_input_only_that_it_was_is_left(keeper: Keeper) -> None:
    kept = keeper.kept(Keeping(redact=("user", "image")), INPUTS)
    assert kept is not None
    assert set(kept) == {"redacted:image", "redacted:user", "table"}
    assert kept["redacted:image"].size == kept["redacted:user"].size == 0
    assert len(kept["redacted:user"]) == 2


def test_a_hash_is_keyed_equal_for_equal_values_and_tells_inputs_apart(keeper: Keeper) -> None:
    kept = keeper.kept(Keeping(hashed=("user",)), {"user": np.array([7, 7, 8], np.int64)})
    assert kept is not None
    assert list(kept) == ["hash:user"]
    first, again, other = kept["hash:user"].tolist()
    expected = hmac.digest(b"s" * 32, b"user\0" + (7).to_bytes(8, "little"), hashlib.sha256)[:8]
    assert first == again == int.from_bytes(expected, "little", signed=True)
    assert other != first
    for salt, name in ((b"t" * 32, "user"), (b"s" * 32, "shop")):
        elsewhere = Keeper(lambda salt=salt: salt).kept(Keeping(hashed=(name,)), {name: np.array([[7]], np.int64)})
        assert elsewhere is not None
        assert elsewhere[f"hash:{name}"].tolist() != [first]


def test_the_salt_is_asked_for_once_and_not_without_a_hash() -> None:
    asked: list[int] = []
    keeper = Keeper(lambda: (asked.append(1), b"s" * 32)[1])
    keeper.kept(Keeping(), INPUTS)
    assert asked == []
    for _ in range(3):
        keeper.kept(Keeping(hashed=("user",)), INPUTS)
    assert asked == [1]


def test_descriptors_stand_for_wide_inputs_and_narrow_ones_are_left_out(keeper: Keeper) -> None:
    kept = keeper.kept(Keeping("descriptors"), INPUTS)
    assert kept is not None
    assert set(kept) == {"descriptors:image", "redacted:user", "redacted:table"}
    expected = descriptors(INPUTS["image"])
    assert kept["descriptors:image"].shape == (2, len(NAMES))
    assert kept["descriptors:image"].dtype == np.float64
    for index, name in enumerate(NAMES):
        np.testing.assert_array_equal(kept["descriptors:image"][:, index], expected[name])


def test_a_sample_is_a_share_of_the_requests(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([0.0, 0.24, 0.25, 0.9])
    monkeypatch.setattr(keeper._random, "random", lambda: next(draws))
    kept = [keeper.kept(Keeping("sample", 0.25), INPUTS) is not None for _ in range(4)]
    assert kept == [True, True, False, False]


def test_a_sample_is_drawn_and_not_chosen_by_who_asks(keeper: Keeper) -> None:
    kept = sum(keeper.kept(Keeping("sample", 0.5), INPUTS) is not None for _ in range(400))
    assert 100 < kept < 300  # 10 standard deviations


@pytest.mark.parametrize(
    ("keeping", "said"),
    [
        (Keeping(redact=("usr",)), "no input 'usr'"),
        (Keeping(hashed=("usr",)), "no input 'usr'"),
        (Keeping(redact=("user",), hashed=("user",)), "both redacted and hashed"),
        (Keeping(hashed=("image",)), "'image' cannot be hashed"),
        (Keeping(hashed=("table",)), "'table' cannot be hashed"),
        (Keeping("descriptors", redact=("image",)), "no input is wide enough"),
    ],
)
def test_what_cannot_be_done_with_a_models_inputs_is_told(keeping: Keeping, said: str) -> None:
    misfit = keeping.misfit(SPEC)
    assert misfit is not None
    assert said in misfit


def test_what_fits_fits() -> None:
    for keeping in (Keeping(), Keeping(redact=("user",)), Keeping(hashed=("user",)), Keeping("descriptors")):
        assert keeping.misfit(SPEC) is None


def test_a_recipe_is_refused_before_anything_is_trained() -> None:
    head = "name: demo\nmodel: net:build\ndata: net:split\nserving: {journal: {redact: [%s]}}\n"
    for name, wrong in (("user", False), ("usr", True)):
        section = parse_recipe(head % name).serving.journal.model_dump(mode="json")
        if wrong:
            with pytest.raises(RecipeError, match="no input 'usr'"):
                refuse_misfit(section, INPUTS)
        else:
            refuse_misfit(section, INPUTS)


@pytest.mark.parametrize(
    ("section", "keeping"),
    [
        ({}, Keeping()),
        ({"journal_inputs": False}, Keeping("none")),
        ({"journal_inputs": True}, Keeping()),
        ({"journal": {"inputs": "sample"}}, Keeping("sample", 0.1)),
        ({"journal": {"redact": ["a"], "hash": ["b"], "retention_days": 3}}, Keeping("full", 1.0, ("a",), ("b",))),
        ({"journal_inputs": True, "journal": {"inputs": "none"}}, Keeping("none")),
    ],
)
def test_a_released_section_is_read_whether_it_is_of_before_or_after(section: dict, keeping: Keeping) -> None:
    assert Keeping.from_json(section) == keeping


@pytest.mark.parametrize(
    "text", ["", "[]", '{"inputs": "all"}', '{"sample": 0, "inputs": "sample"}', '{"redact": [1]}', '{"redacted": []}']
)
def test_nonsense_on_the_command_line_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        Keeping.from_text(text)


class Takes:
    """A model of an image and a user's number; answers the same probabilities for all."""

    spec = {"inputs": SPEC[:2], "outputs": []}  # noqa: RUF012
    reentrant = True

    def predict(self, inputs):
        return {"probabilities": np.full((len(inputs["user"]), 2), 0.5, np.float32)}


@pytest.mark.parametrize("compacted", [False, True])
def test_neither_log_nor_parquet_holds_a_redacted_value_or_what_was_hashed(tmp_path: Path, compacted: bool) -> None:
    folder = tmp_path / "journal"
    service = Service("tiny", tmp_path, Journal(folder, segment_bytes=64), salt_file=tmp_path / "salt")
    service.swap(loaded(predictor=Takes(), keeping=Keeping("descriptors", hashed=("user",))))
    body = {"inputs": {"image": INPUTS["image"].tolist(), "user": [1234567890123, 5]}}
    with TestClient(build(service)) as client:
        assert [client.post("/invocations", json=body).status_code for _ in range(2)] == [200, 200]
        if compacted:
            assert compact(folder) == 1
        found = window(folder, 0, 2)
    assert found.inputs is not None
    assert set(found.inputs) == {"descriptors:image", "hash:user"}
    np.testing.assert_array_equal(
        found.inputs["descriptors:image"], np.stack(list(descriptors(INPUTS["image"]).values()), axis=1)
    )
    needle = (1234567890123).to_bytes(8, "little")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not [path.name for path in files if needle in path.read_bytes()]
    assert (tmp_path / "salt").stat().st_mode & 0o077 == 0
    assert json.dumps(1234567890123).encode() not in b"".join(path.read_bytes() for path in files)
