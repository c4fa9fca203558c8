"""Imports the user's code beside ours without either shadowing the other.

A user's project may have `flows/`, `tasks/`, `deployments/` or `tests/` folders; so do we. While their code is imported
or called, their folder leads `sys.path` and our modules of those names are set aside; afterwards ours are back and
theirs are kept for the next call. One lock, because `sys.modules` is one for the process.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from trimtab.errors import ModelError, RecipeError, TrimtabError, UserCodeError
from trimtab.recipe.load import load_recipe
from trimtab.recipe.schema import Recipe

if TYPE_CHECKING:
    from torch import nn

OURS = ("flows", "tasks", "deployments", "tests", "examples")
_lock = threading.RLock()
_active: list[UserCode] = []


class UserCode:
    """A recipe with the code it names.

    Args:
        path: the recipe file; its folder is where modules are looked up first.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).resolve()
        self.folder = self.path.parent
        self.recipe: Recipe = load_recipe(self.path)
        self._theirs: dict[str, ModuleType] = {}

    def build_model(self, **overrides: Any) -> nn.Module:
        """Call `model.callable`; weights are not loaded here.

        Raises:
            UserCodeError: the callable cannot be imported or raises.
            ModelError: it does not return an nn.Module.
        """
        from torch import nn  # late: monitoring reads recipes without torch

        spec = self.recipe.model
        model = self.call(spec.callable, "model.callable", **{**spec.kwargs, **overrides})
        if not isinstance(model, nn.Module):
            raise ModelError(
                f"{spec.callable} returned {type(model).__name__}, not an nn.Module",
                where="model.callable",
                fix="return a torch.nn.Module",
            )
        return model

    def dataset(self, split: str) -> Any:
        """Call `data(split)`.

        Raises:
            UserCodeError: the callable cannot be imported or raises.
        """
        return self.call(self.recipe.data, "data", split)

    def find(self, entry: str, key: str) -> None:
        """See that `module:callable` can be imported, without calling it.

        Raises:
            UserCodeError, RecipeError: it cannot.
        """
        with self.in_front():
            self._import(entry, key)

    def takes(self, entry: str, key: str, parameter: str) -> bool:
        """Whether `module:callable` has a parameter of this name, without calling it.

        Raises:
            UserCodeError, RecipeError: it cannot be imported.
        """
        with self.in_front():
            function = self._import(entry, key)
        try:
            return parameter in inspect.signature(function).parameters
        except (TypeError, ValueError):  # written in C, without a signature
            return False

    def call(self, entry: str, key: str, *args: Any, **kwargs: Any) -> Any:
        """Import `module:callable` and call it with the user's modules in front."""
        with self.in_front():
            function = self._import(entry, key)
            return self._called(function, entry, key, *args, **kwargs)

    def function(self, entry: str, key: str) -> Callable[..., Any]:
        """Import `module:callable` once, for thousands of calls: none of them puts their modules in front of ours.

        What it raises is a UserCodeError, as of `call`. What it imports must be imported at the top of its module.

        Raises:
            UserCodeError, RecipeError: it cannot be imported.
        """
        with self.in_front():
            function = self._import(entry, key)
        return partial(self._called, function, entry, key)

    def _called(self, function: Callable[..., Any], entry: str, key: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TrimtabError:
            raise
        except Exception as error:
            raise UserCodeError(
                f"{entry} raised {type(error).__name__}: {error}\n{self._their_traceback(error)}",
                where=f"{self.path}: {key}",
                fix="correct your code; the traceback above is yours",
            ) from None

    @contextmanager
    def in_front(self) -> Iterator[None]:
        """While inside, `import flows` (and the like) means the user's; afterwards ours again."""
        with _lock:
            if _active and _active[-1] is self:
                yield
                return
            ours = _take(OURS)
            sys.modules.update(self._theirs)
            sys.path.insert(0, str(self.folder))
            _active.append(self)
            importlib.invalidate_caches()
            try:
                yield
            finally:
                _active.pop()
                sys.path.remove(str(self.folder))
                self._theirs.update(_take([*OURS, *self._shadowing()]))
                sys.modules.update(ours)

    def digest(self) -> str:
        """SHA-256 of the user's Python files beside and below the recipe, without hidden folders and environments."""
        whole = hashlib.sha256()
        for file in sorted(_python_files(self.folder)):
            whole.update(str(file.relative_to(self.folder)).encode())
            whole.update(hashlib.sha256(file.read_bytes()).digest())
        return whole.hexdigest()

    def _shadowing(self) -> set[str]:
        """Top-level modules that came from the user's folder: set aside too, so that two projects do not mix."""
        inside = str(self.folder) + "/"
        return {
            name.partition(".")[0]
            for name, module in list(sys.modules.items())
            if (getattr(module, "__file__", None) or "").startswith(inside)
            and ".venv" not in (module.__file__ or "")
            and "site-packages" not in (module.__file__ or "")
            and name.partition(".")[0] not in ("trimtab", "__main__", "conftest")
        }

    def _import(self, entry: str, key: str) -> Any:
        module_name, _, attribute = entry.partition(":")
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            raise UserCodeError(
                f"cannot import {module_name}: {type(error).__name__}: {error}\n{self._their_traceback(error)}",
                where=f"{self.path}: {key}",
                fix=f"modules are looked up from {self.folder} first",
            ) from None
        function = getattr(module, attribute, None)
        if not callable(function):
            raise RecipeError(
                f"{module_name} has no callable {attribute}",
                where=f"{self.path}: {key}",
                fix=f"it defines: {', '.join(n for n in vars(module) if not n.startswith('_')) or 'nothing'}",
            )
        return function

    def _their_traceback(self, error: BaseException) -> str:
        """The frames of the user's files only."""
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [frame for frame in frames if Path(frame.filename).is_relative_to(self.folder)]
        return "".join(traceback.format_list(theirs)).rstrip()


def _take(roots: list[str] | tuple[str, ...]) -> dict[str, ModuleType]:
    """Remove the modules below these top-level names from sys.modules and return them."""
    taken = [name for name in list(sys.modules) if name.partition(".")[0] in roots]
    return {name: sys.modules.pop(name) for name in taken}


def _python_files(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and name != "__pycache__" and not (Path(here) / name / "pyvenv.cfg").exists()
        ]
        yield from (Path(here) / name for name in files if name.endswith(".py"))
