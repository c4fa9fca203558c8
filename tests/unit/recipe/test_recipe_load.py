"""A recipe is refused whole, before anything runs, with the key, the value and what is allowed."""

from pathlib import Path

import pytest

from trimtab.errors import RecipeError
from trimtab.recipe.load import load_recipe, parse_recipe
from trimtab.recipe.template import template

MINIMAL = "name: demo\nmodel: net:build\ndata: net:split\n"


def test_three_keys_are_enough():
    recipe = parse_recipe(MINIMAL)
    assert recipe.model.callable == "net:build"
    assert recipe.budget.max_drop == 0.03


def test_every_default_in_the_template_is_the_real_default():
    text = template()
    uncommented = "\n".join(
        line[2:] if line.startswith("# ") and not line.startswith(("# A ", "# Check", "# model:")) else line
        for line in text.splitlines()
    )
    assert "budget:" in uncommented.splitlines()[40:] or "\nbudget:" in uncommented
    assert parse_recipe(uncommented) == parse_recipe(text)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("budgett: {max_drop: 0.1}", "did you mean budget?"),
        ("budget: {max_dropp: 0.1}", "did you mean max_drop?"),
        ("compress: {prune: {norm: [l1]}}", "did you mean norms?"),
        ("train: {epochs: many}", "'many' is not allowed"),
        ("targets: [tensorrt]", "'tensorrt' is not allowed"),
        ("budget: {max_drop: -1}", "-1 is not allowed"),
        ("monitoring: {schedule: {interval_s: 60, cron: '* * * * *'}}", "exactly one of interval_s and cron"),
        ("budget: {min_attribution_correlation: 0.8}\nverify: {explain: null}", "verify.explain is null"),
    ],
)
def test_an_error_names_the_key_the_value_and_what_is_allowed(line, said):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(MINIMAL + line)
    assert said in str(caught.value)
    assert line.split(":")[0] in str(caught.value)


def test_all_errors_are_told_at_once():
    with pytest.raises(RecipeError) as caught:
        parse_recipe("name: 'a/b'\nmodel: net\n")
    text = str(caught.value)
    assert "name" in text
    assert "model.callable" in text
    assert "data: required key is missing" in text


@pytest.mark.parametrize("name", ["a/b", "a:b", "..", "", "x" * 101, "m%6fdel", "digits ", "dïgits"])
def test_names_the_registry_would_mangle_are_refused(name):
    with pytest.raises(RecipeError, match="name"):
        parse_recipe(f"name: {name!r}\nmodel: net:build\ndata: net:split\n")


@pytest.mark.parametrize("text", ["- a list", "just text", "a: [unclosed", ""])
def test_what_is_no_mapping_is_refused(text):
    with pytest.raises(RecipeError):
        parse_recipe(text)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path):
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe(tmp_path / "nowhere.yaml")
    with pytest.raises(RecipeError, match="folder"):
        load_recipe(tmp_path)


def test_missing_weights_are_refused_at_the_door(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: demo\nmodel: {callable: net:build, weights: gone.safetensors}\ndata: net:split\n")
    with pytest.raises(RecipeError, match="gone") as caught:
        load_recipe(path)
    assert str(tmp_path / "gone.safetensors") in str(caught.value)
