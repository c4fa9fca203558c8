"""The recipe's own slices at the door: a usable mapping comes through, everything else is refused with figures."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trimtab.data import from_arrays
from trimtab.errors import DataError, TrimtabError, UserCodeError
from trimtab.own_slices import computed_slices, load_slices, slices_digest, slices_of_rows
from trimtab.recipe import UserCode
from trimtab.settings import Settings
from trimtab.workbench import Workbench

RECIPE = "name: demo\nmodel: net:build\ndata: net:split\nverify: {slices: net:parts}\n"
GATE = from_arrays("gate", {"input": np.zeros((6, 2), np.float32)}, np.array([0, 0, 1, 1, 2, 2]))
CLASSES = ["cat", "dog", "cow"]


def slices(folder: Path, body: str, recipe: str = RECIPE) -> dict[str, Any]:
    (folder / "net.py").write_text(f"import numpy as np, torch\ndef parts(split):\n    {body}\n")
    (folder / "recipe.yaml").write_text(recipe)
    return load_slices(UserCode(folder / "recipe.yaml"), GATE, CLASSES)


def test_masks_come_through_by_name_whatever_holds_the_bools(tmp_path: Path) -> None:
    found = slices(
        tmp_path,
        "return {'night': np.arange(6) < 2, 'list': [True] * 6, 'tensor': torch.arange(6) > 3, "
        "split: np.arange(6) == 0}",
    )
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "night": [True, True, False, False, False, False],
        "list": [True] * 6,
        "tensor": [False, False, False, False, True, True],
        "gate": [True, False, False, False, False, False],
    }
    assert {mask.dtype for mask in found.values()} == {np.dtype(bool)}


def test_without_a_callable_there_are_none(tmp_path: Path) -> None:
    assert slices(tmp_path, "raise KeyError", RECIPE.replace("verify: {slices: net:parts}\n", "")) == {}


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (
            "return {'night': np.ones(5, bool)}",
            DataError,
            r"parts\('gate'\): night: shape \(5,\), .* 6 rows",
        ),
        ("return {'night': np.ones((6, 1), bool)}", DataError, r"shape \(6, 1\)"),
        ("return {'night': np.zeros(6, bool)}", DataError, "selects none of 6 rows"),
        ("return {'night': np.array([0, 3, 5])}", DataError, "int64 of shape .* not bool"),
        ("return {'night': [[True], [True, False]]}", DataError, "night: is no array"),
        ("return [np.ones(6, bool)]", DataError, "returned list"),
        ("return {}", DataError, "an empty mapping"),
        ("return {'cat': np.ones(6, bool)}", DataError, "'cat' is the name of a class"),
        ("return {3: np.ones(6, bool)}", DataError, "3 is no name"),
        ("return {' night': np.ones(6, bool)}", DataError, "' night' is no name"),
        ("return {'a\\nb': np.ones(6, bool)}", DataError, "is no name"),
        ("return {'x' * 61: np.ones(6, bool)}", DataError, "1 to 60"),
        ("return 1 / 0", UserCodeError, "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_used_is_refused_with_figures(
    tmp_path: Path, body: str, kind: type[TrimtabError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        slices(tmp_path, body)


def computed(folder: Path, source: str) -> Any:
    (folder / "net.py").write_text(source)
    (folder / "recipe.yaml").write_text(RECIPE)
    return computed_slices(UserCode(folder / "recipe.yaml"))


def test_slices_of_a_window_are_computed_where_the_callable_takes_inputs(tmp_path: Path) -> None:
    found = computed(
        tmp_path,
        "import numpy as np\n"
        "def parts(split, inputs=None):\n"
        "    rows = inputs['input'] if inputs is not None else np.zeros((6, 2))\n"
        "    return {'wide': rows[:, 0] > 1, split: rows[:, 0] > 99}\n",
    )
    masks = found({"input": np.arange(6, dtype=np.float32).reshape(3, 2)})
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "wide": [False, True, True],
        "window": [False, False, False],  # a window may hold none of a slice, where a split may not
    }
    inputs = {"input": np.zeros((2, 2), np.float32)}
    assert slices_of_rows(tmp_path / "recipe.yaml", inputs)["wide"].tolist() == [False, False]


def test_slices_by_split_alone_cannot_be_computed_for_a_window(tmp_path: Path) -> None:
    assert computed(tmp_path, "def parts(split):\n    raise KeyError\n") is None
    assert slices_of_rows(tmp_path / "recipe.yaml", {"input": np.zeros((2, 2))}) == {}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return [True]", "returned list"),
        ("return {'a': [True]}", r"shape \(1,\)"),
        ("return {'a': inputs}", "not bool"),
    ],
)
def test_what_a_callable_gives_for_a_window_is_checked_too(tmp_path: Path, body: str, said: str) -> None:
    found = computed(tmp_path, f"def parts(split, inputs=None):\n    {body}\n")
    with pytest.raises(DataError, match=said):
        found({"input": np.zeros((2, 2), np.float32)})


def test_the_digest_changes_with_a_row_and_with_a_name() -> None:
    night = np.array([1, 0, 1], bool)
    digests = [slices_digest(one) for one in ({"a": night}, {"a": ~night}, {"b": night}, {"a": night.copy()})]
    assert len(set(digests)) == 3
    assert digests[0] == digests[3]


DATA = """
import numpy as np, torch
from pathlib import Path
from torch.utils.data import TensorDataset

def split(name):
    start = {"train": 0, "validation": 100, "gate": 200}[name]
    return TensorDataset(torch.arange(start, start + 40.0)[:, None], torch.arange(40) % 2)

def parts(name):
    return {"early": np.arange(40) < int(Path(__file__).with_name("rows.txt").read_text())}
"""


def test_what_is_measured_is_not_reused_when_slices_come_from_elsewhere_and_change(tmp_path: Path) -> None:
    def key(rows: str) -> str:
        (tmp_path / "rows.txt").write_text(rows)
        return Workbench(tmp_path / "recipe.yaml", Settings(home=tmp_path / "home")).key

    (tmp_path / "net.py").write_text(DATA)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    first = key("10")
    assert key("11") != first
    assert key("10") == first


def test_rows_that_joined_validation_on_a_retrain_are_in_no_slice_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import numpy as np\ndef parts(split):\n    return {split: np.arange(6) < 2}\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    new = from_arrays("validation", {"input": np.zeros((3, 2), np.float32)}, np.array([0, 1, 2]))
    bench: Any = SimpleNamespace(
        code=UserCode(tmp_path / "recipe.yaml"),
        class_names=CLASSES,
        splits={"validation": from_arrays("validation", GATE.inputs, GATE.labels).joined(new)},
        new_rows=SimpleNamespace(validation=new),
    )
    assert Workbench.validation_slices(bench)["validation"].tolist() == [True, True, *[False] * 7]
    bench.splits, bench.new_rows = {"validation": GATE}, None
    assert len(Workbench.validation_slices(bench)["gate"]) == 6
