"""Eager PyTorch on the CPU: the user's model code, and its weights as safetensors, of a converted folder.

    model.json            what to build: the callable, its arguments, what compression changed, the pre-processing, and
                          where the outputs are in what it returns, if that is not one tensor
    weights.safetensors   the state dict, under the names of the user's module
    code/                 the user's Python files that the callable needs

The code is run when the folder is loaded, so a folder is to be trusted as any Python package is; the weights are not:
safetensors holds tensors and nothing that could be run.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

# bundle: drop
from trimtab.runtime.door import check_inputs, load_spec
from trimtab.runtime.picking import picked
from trimtab.runtime.preprocessing import SINGLE_INPUT, is_transformed, transform

# bundle: keep

_IMPORTING = threading.RLock()  # sys.path and sys.modules are one for the process


class Predictor:
    """The user's module, called as it is, between pre-processing and, of a classifier, softmax.

    Not reentrant: user code may keep state in the module. Threads are a setting of torch for the whole process, as for
    TorchScript. What the code imports it must import at the top of its modules: they are not importable afterwards.

    Attributes:
        spec: inputs and outputs, as in spec.json.
        reentrant: whether `predict` may be called from several threads at once.
    """

    reentrant = False

    def __init__(
        self,
        module: nn.Module,
        preprocess: dict[str, Any],
        paths: Sequence[str | None],
        spec: dict[str, Any],
        threads: int,
    ) -> None:
        self.spec = spec
        self._module = module.eval()
        self._preprocess = preprocess
        self._threads = threads
        self._paths = dict(zip([tensor["name"] for tensor in spec["outputs"]], paths, strict=True))

    @classmethod
    def load(cls, folder: Path, threads: int) -> Predictor:
        """Import the code of `folder`, build its model and load the weights.

        Raises:
            ImportError, AttributeError: the code needs a package that is not installed, or lacks the callable.
            RuntimeError: the weights do not fit what the code builds.
        """
        folder = Path(folder)
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        module = _built(folder / "code", facts["callable"], facts["kwargs"])
        reshape(module, facts["changes"])
        fill(module, load_file(folder / "weights.safetensors"), facts["tied"])
        return cls(module, facts["preprocess"], facts.get("outputs", [None]), load_spec(folder), threads)

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs name → array (batch, ...).

        Raises:
            InputError: the inputs do not fit the specification.
        """
        given = {name: torch.tensor(array) for name, array in check_inputs(self.spec, inputs).items()}
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        ready = {
            name: transform(value, **self._preprocess) if is_transformed(value, given) else value
            for name, value in given.items()
        }
        with torch.inference_mode():
            single = set(ready) == {SINGLE_INPUT}
            answer = self._module(ready[SINGLE_INPUT]) if single else self._module(**ready)
            tensors = {name: picked(answer, path).float() for name, path in self._paths.items()}
            return {name: np.asarray(_finished(name, tensor)) for name, tensor in tensors.items()}


def _finished(name: str, answer: Tensor) -> Tensor:
    """Logits become probabilities (batch, classes), a regression's numbers are (batch, k); what else there is stays."""
    if name == "probabilities":
        return torch.softmax(answer, dim=1)
    return answer.unsqueeze(1) if name == "prediction" and answer.ndim == 1 else answer


class Dropped(nn.Identity):
    """What stands where compression took a block out: gives its first argument back."""

    def forward(self, input: Tensor, *_: Any, **__: Any) -> Tensor:
        """The first argument."""
        return input


def reshape(module: nn.Module, changes: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Change a freshly built module into the compressed one, but for the weights, in place.

    Args:
        changes: name of a submodule → its attributes of other values (numbers, strings, lists of them for tuples), or
            None where it was taken out.
    """
    for name, attributes in changes.items():
        if attributes is None:
            module.set_submodule(name, Dropped())
            continue
        for key, value in attributes.items():
            setattr(module.get_submodule(name), key, tuple(value) if isinstance(value, list) else value)


def fill(module: nn.Module, weights: Mapping[str, Tensor], tied: Mapping[str, str]) -> None:
    """Load a state dict, giving each parameter and buffer the shape it has there.

    Args:
        weights: name → tensor. tied: further names of a tensor → its name in `weights`.

    Raises:
        RuntimeError: a tensor is missing or not known to the module.
    """
    state = {**weights, **{name: weights[first] for name, first in tied.items()}}
    for name, old in list(module.state_dict().items()):
        if name in state and state[name].shape != old.shape:
            owner, _, key = name.rpartition(".")
            new: Tensor = torch.empty_like(state[name])
            # Not register_parameter: an RNN keeps a list of its weights that only setattr renews.
            is_parameter = key in module.get_submodule(owner)._parameters
            setattr(module.get_submodule(owner), key, nn.Parameter(new) if is_parameter else new)
    module.load_state_dict(state, strict=True)


def _built(code: Path, entry: str, kwargs: Mapping[str, Any]) -> nn.Module:
    module_name, _, attribute = entry.partition(":")
    with _alone(code):
        module: nn.Module = getattr(importlib.import_module(module_name), attribute)(**kwargs)
    return module


@contextmanager
def _alone(code: Path) -> Iterator[None]:
    """While inside, the modules of a folder are importable; two releases with modules of one name do not mix."""
    names = {path.stem if path.is_file() else path.name for path in code.iterdir()}
    with _IMPORTING:
        aside = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}
        writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a release holds what its manifest names
        sys.path.insert(0, str(code))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(str(code))
            sys.dont_write_bytecode = writes
            for name in [name for name in sys.modules if name.partition(".")[0] in names]:
                del sys.modules[name]
            sys.modules.update(aside)
