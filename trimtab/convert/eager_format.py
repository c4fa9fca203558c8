"""Eager PyTorch: the weights as safetensors beside the user's own model code, so that nothing is exported.

For models no exporter can hold. What a release takes along of the user's code: the files, beside and below the recipe,
that the callable's module imports, directly or not. Packages from elsewhere must be installed where it is served.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

from torch import nn

from trimtab.convert.graph import Deployed, refuse_unfit
from trimtab.convert.job import Code, Job
from trimtab.errors import UnsupportedError
from trimtab.outputs import ONE
from trimtab.weights import save_weights, tied_names

_SIMPLE = (int, float, bool, str, type(None))


def write(job: Job) -> list[str]:
    """Write model.json, weights.safetensors and code/.

    Returns:
        Notes for the reader: which files of the user's went along.

    Raises:
        UnsupportedError: it is not known what builds the module, or compression changed the module in a way that
            cannot be written down.
    """
    refuse_unfit(job.module)
    if job.code is None or not isinstance(job.module, Deployed):
        raise UnsupportedError(
            "needs the callable that builds the model, and was given a module alone",
            where=job.target,
            fix="convert a candidate of a recipe, or pass `code`",
        )
    model, kept = job.module.model, job.module.kept
    facts = {
        "callable": job.code.callable,
        "kwargs": dict(job.code.kwargs),
        "changes": _changes(job.code.build(), model, job.target),
        "tied": tied_names(model),
        "preprocess": job.module.preprocess.model_dump(),
        **({} if kept == ONE else {"outputs": [kept.answer, *kept.also.values()]}),
    }
    (job.out / "model.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    save_weights(model, job.out / "weights.safetensors")
    files = user_files(job.code)
    for name, path in files.items():
        (job.out / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, job.out / "code" / name)
    return [f"eager PyTorch: {job.code.callable} of {', '.join(files)}, weights as safetensors"]


def user_files(code: Code) -> dict[str, Path]:
    """The user's files that the callable's module needs: path below the recipe's folder → file.

    Raises:
        UnsupportedError: the module is not among them, so that a release could not carry it.
    """
    module = code.callable.partition(":")[0]
    finder = ModuleFinder(path=[str(code.folder)])  # so that nothing else is found, or opened
    try:
        finder.import_hook(module)
    except ImportError:
        raise UnsupportedError(
            f"the module {module} does not lie beside the recipe, so a release cannot take it along",
            where="eager-cpu",
            fix="name a callable of a module of your own that returns the model",
        ) from None
    found = [Path(item.__file__) for item in finder.modules.values() if item.__file__]  # type: ignore[attr-defined]
    return {path.relative_to(code.folder).as_posix(): path for path in sorted(found)}


def _changes(fresh: nn.Module, model: nn.Module, target: str) -> dict[str, dict[str, Any] | None]:
    """What `runtime.eager_cpu.reshape` must do to a freshly built module."""
    built, changes = dict(fresh.named_modules()), dict[str, dict[str, Any] | None]()
    dropped: list[str] = []
    for name, module in model.named_modules():
        other = built.get(name)
        if isinstance(module, nn.Identity) and not isinstance(other, nn.Identity):
            dropped.append(name)
            changes[name] = None
            continue
        if other is None or type(other).__qualname__ != type(module).__qualname__:
            raise UnsupportedError(
                f"compression put a {type(module).__name__} where the code builds a {type(other).__name__}",
                where=f"{target}: {name}",
                fix="take the target out of `targets`",
            )
        if differing := _differing(vars(other), vars(module)):
            changes[name] = differing
    below = tuple(f"{name}." for name in dropped)
    return {name: changed for name, changed in changes.items() if not (below and name.startswith(below))}


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in after.items()
        if key != "training" and not key.startswith("_") and _is_simple(value) and before.get(key) != value
    }


def _is_simple(value: Any) -> bool:
    return isinstance(value, _SIMPLE) or (isinstance(value, tuple) and all(isinstance(one, _SIMPLE) for one in value))
