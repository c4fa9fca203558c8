"""The recipe `trimtab init` writes: every key with its default and meaning, generated from the schema."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trimtab.recipe.schema import Recipe

HEAD = """\
# A Trimtab recipe. Only name, model and data are required; everything else shows its default, commented out.
# Check it with `trimtab validate {file}`, then run `trimtab release {file}`.

name: {name}                   # of the registered model
model: {model}       # a callable that returns an nn.Module whose forward gives logits (n, classes)
# model: {{callable: {model}, weights: weights.safetensors, kwargs: {{}}}}   # with weights: nothing is trained
data: {data}        # a callable(split) that returns a torch Dataset of (input, label)
                               # for the splits train, validation and gate; nothing else ever sees the gate

"""
REQUIRED = ("name", "model", "data")


def template(
    name: str = "my-model",
    model: str = "my_model:build",
    data: str = "my_data:split",
    task: str = "classification",
) -> str:
    """YAML text of a recipe with these three keys set and every other key shown, commented out, at its default.

    Args:
        task: regression is written out, since it is not the default.
    """
    lines = [HEAD.format(name=name, model=model, data=data, file="recipe.yaml")]
    regression = task == "regression"
    if regression:
        lines[0] = lines[0].replace("logits (n, classes)", "numbers (n,) or (n, k)")
        lines += ["task: regression               # labels are numbers, one or k a row", ""]
    for key, field in Recipe.model_fields.items():
        if key not in REQUIRED and not (regression and key == "task"):
            lines += _lines(key, field, depth=0)
    return "\n".join(line.rstrip() for line in "\n".join(lines).splitlines()) + "\n"


def _lines(key: str, field: FieldInfo, depth: int) -> list[str]:
    default = field.get_default(call_default_factory=True)
    note = f"   # {field.description}" if field.description else ""
    indent = "  " * depth
    if isinstance(default, BaseModel):
        about = " ".join((type(default).__doc__ or "").split("\n")[0].split())
        body = [
            line for name, inner in type(default).model_fields.items() for line in _inner(default, name, inner, depth)
        ]
        return [f"# {indent}{key}:   # {about}", *body, *([""] if depth == 0 else [])]
    return [f"# {indent}{key}: {_yaml(default)}{note}", *([""] if depth == 0 else [])]


def _inner(section: BaseModel, name: str, field: FieldInfo, depth: int) -> list[str]:
    """A key of a section at the value the section has by default (which may differ from the key's own default)."""
    shown = FieldInfo.merge_field_infos(field, default=getattr(section, name), default_factory=None)
    return _lines(name, shown, depth + 1)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
