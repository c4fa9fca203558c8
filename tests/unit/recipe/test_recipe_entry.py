"""The user's code and ours live in one process without shadowing each other."""

import sys
from pathlib import Path

import pytest

from trimtab.errors import ModelError, RecipeError, UserCodeError
from trimtab.recipe import UserCode


def project(folder: Path, code: str, recipe: str = "name: demo\nmodel: net:build\ndata: net:split\n") -> UserCode:
    """A user's project: a recipe and one module."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.py").write_text(code)
    (folder / "recipe.yaml").write_text(recipe)
    return UserCode(folder / "recipe.yaml")


@pytest.mark.parametrize("shadow", ["flows", "tasks", "deployments", "tests"])
def test_their_folder_and_ours_of_the_same_name_do_not_shadow_each_other(tmp_path: Path, shadow: str):
    (tmp_path / shadow).mkdir()
    (tmp_path / shadow / "__init__.py").write_text("WHOSE = 'theirs'\n")
    (tmp_path / shadow / "part.py").write_text("def width():\n    return 3\n")
    code = project(
        tmp_path,
        f"from torch import nn\nimport {shadow}\n"
        "def build():\n"
        f"    from {shadow}.part import width\n"
        f"    assert {shadow}.WHOSE == 'theirs'\n"
        "    return nn.Linear(width(), 2)\n"
        "def split(name): ...\n",
    )
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == shadow}
    path = list(sys.path)
    assert code.build_model().in_features == 3
    assert code.build_model().in_features == 3
    assert sys.path == path
    after = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == shadow}
    assert after == before
    if shadow == "tasks":
        import tasks

        assert not hasattr(tasks, "WHOSE")


def test_two_projects_with_the_same_module_name_do_not_mix(tmp_path: Path):
    code = "from torch import nn\ndef build():\n    return nn.Linear({}, 2)\ndef split(name): ...\n"
    first = project(tmp_path / "one", code.format(3))
    second = project(tmp_path / "two", code.format(5))
    assert first.build_model().in_features == 3
    assert second.build_model().in_features == 5
    assert first.build_model().in_features == 3


def test_an_unimportable_callable_shows_their_traceback_and_not_ours(tmp_path: Path):
    code = project(tmp_path, "def deep():\n    raise KeyError('lost')\ndeep()\n")
    with pytest.raises(UserCodeError) as caught:
        code.build_model()
    text = str(caught.value)
    assert "net.py" in text
    assert "lost" in text
    assert "entry.py" not in text
    assert "importlib" not in text


def test_a_callable_that_raises_shows_their_traceback(tmp_path: Path):
    code = project(tmp_path, "def build():\n    return 1 / 0\n")
    with pytest.raises(UserCodeError, match="ZeroDivisionError") as caught:
        code.build_model()
    assert "return 1 / 0" in str(caught.value)


def test_a_missing_callable_lists_what_there_is(tmp_path: Path):
    code = project(tmp_path, "def make(): ...\n")
    with pytest.raises(RecipeError, match="no callable build") as caught:
        code.build_model()
    assert "make" in str(caught.value)


def test_what_is_no_module_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="returned int"):
        project(tmp_path, "def build():\n    return 3\n").build_model()


def test_the_digest_changes_with_the_code_and_with_nothing_else(tmp_path: Path):
    code = project(tmp_path, "def build(): ...\n")
    first = code.digest()
    (tmp_path / "notes.txt").write_text("hello")
    assert code.digest() == first
    (tmp_path / "net.py").write_text("def build(): return 1\n")
    assert code.digest() != first
