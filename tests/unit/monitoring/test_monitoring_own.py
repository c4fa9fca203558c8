"""The recipe's own descriptors, from the door to the verdict."""

from __future__ import annotations

import json
from pathlib import Path

import monitoring_world as world
import numpy as np
import pytest

from trimtab.errors import DataError, RecipeError, UserCodeError
from trimtab.monitoring import profile as profiles
from trimtab.monitoring.door import check_watch, kinds_of, own_of
from trimtab.monitoring.judge import judge
from trimtab.monitoring.own import own_columns
from trimtab.recipe import UserCode

Array = np.ndarray
RECIPE = """
name: own
model: net:build
data: net:split
monitoring:
  descriptors: {descriptors}
  drift: {drift}
"""
CODE = """
def top(inputs):
    return inputs["input"][:, 0, 0].max(axis=1)

def broken(inputs):
    raise ValueError("no such pixel")

def short(inputs):
    return [1.0]
"""


def code(folder: Path, descriptors: str = "{}", drift: str = "{}") -> UserCode:
    (folder / "net.py").write_text(CODE)
    (folder / "recipe.yaml").write_text(RECIPE.format(descriptors=descriptors, drift=drift))
    return UserCode(folder / "recipe.yaml")


def release(own: dict[str, Array], n: int = 300) -> tuple[profiles.Profile, dict[str, Array]]:
    rng = np.random.default_rng(0)
    images, output = world.images(rng, n), world.probabilities(rng, n)
    made = {name: np.asarray(function({"input": images}), float) for name, function in own.items()}
    return profiles.build({"input": images}, output, output.argmax(1), own=made)


def test_a_descriptor_of_the_recipe_is_a_column_and_drifts(tmp_path: Path) -> None:
    own = own_of(code(tmp_path, "{top: 'net:top'}"))
    profile, reference = release(dict(own))
    assert profile.own == ("top",)
    assert profiles.Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile
    healthy = judge(world.window(), profile, reference, world.MONITORING, own=own)
    assert healthy.kind == "healthy"
    assert "top" in {column.name for column in healthy.columns}
    assert "top" in judge(world.window(contrast=0.5), profile, reference, world.MONITORING, own=own).drifted


@pytest.mark.parametrize(
    ("descriptors", "said"),
    [
        ("{}", "does not name top any more"),
        ("{top: 'net:broken'}", "no such pixel"),
        ("{top: 'net:short'}", "shape (1,)"),
    ],
)
def test_one_that_fails_on_a_window_is_a_finding_and_the_others_are_judged(
    tmp_path: Path, descriptors: str, said: str
) -> None:
    profile, reference = release(dict(own_of(code(tmp_path, "{top: 'net:top'}"))))
    verdict = judge(world.window(), profile, reference, world.MONITORING, own=own_of(code(tmp_path, descriptors)))
    (column,) = [column for column in verdict.columns if column.name == "top"]
    assert column.findings[0].code == "failed"
    assert said in column.findings[0].detail
    assert verdict.kind == "data_quality"
    assert sum(column.score is not None for column in verdict.columns) > 5


@pytest.mark.parametrize(
    ("descriptors", "error"),
    [("{top: 'net:broken'}", UserCodeError), ("{top: 'net:short'}", DataError), ("{top: 'net:none'}", RecipeError)],
)
def test_at_the_door_it_is_refused(tmp_path: Path, descriptors: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_watch(code(tmp_path, descriptors), {"input": world.images(np.random.default_rng(0), 60)}, 4)


def test_a_rule_for_a_column_that_there_is_not_is_refused_at_the_door_with_a_hint(tmp_path: Path) -> None:
    inputs = {"input": world.images(np.random.default_rng(0), 60)}
    recipe = code(tmp_path, "{top: 'net:top'}", "{columns: {input.maen: {method: ks}}}")
    with pytest.raises(RecipeError, match=r"did you mean 'input\.mean'") as caught:
        check_watch(recipe, inputs, 4)
    assert "predicted, top" in str(caught.value)
    fine = code(
        tmp_path, "{top: 'net:top'}", "{columns: {top: {kind: categorical}, input.reconstruction: {method: ks}}}"
    )
    assert "input.reconstruction" in check_watch(
        fine, inputs | {"input": world.images(np.random.default_rng(0), 200)}, 4
    )
    assert kinds_of(fine.recipe.monitoring) == {"top": "categorical"}


@pytest.mark.parametrize(
    ("monitoring", "said"),
    [
        ("{descriptors: {confidence: 'a:b'}}", "a column of ours"),
        ("{descriptors: {'a b': 'a:b'}}", "descriptors.a b"),
        ("{drift: {numeric: cosine}}", "anderson"),
        ("{drift: {categorical: ks}}", "jensenshannon"),
        ("{drift: {columns: {x: {kind: categorical, method: ks}}}}", "ks is for numbers"),
        ("{drift: {columns: {x: {kind: datetime, threshold: 1}}}}", "points in time"),
        ("{drift: {columns: {x: {threshold: 0}}}}", "greater than 0"),
        ("{drift: {memory: -1}}", "memory"),
    ],
)
def test_the_recipe_refuses_what_cannot_be_meant(monitoring: str, said: str) -> None:
    from trimtab.recipe.load import parse_recipe

    with pytest.raises(RecipeError, match=said.replace("(", r"\(")):
        parse_recipe(f"{{name: a, model: 'a:b', data: 'a:c', monitoring: {monitoring}}}")


def test_own_columns_are_numbers() -> None:
    with pytest.raises(DataError, match="no numbers"):
        own_columns({"a": lambda inputs: ["x"] * 3}, {"input": np.ones(3)})
