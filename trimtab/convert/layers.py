"""What each layer of a torch module gives for some rows, in the order in which it is computed.

Recorded below the modules, an operation at a time (`TorchDispatchMode`), so that what a forward does itself (an
addition, a softmax) has a value too; hooks only say which module an operation belongs to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from trimtab.convert.graph import output_of
from trimtab.runtime.eager import call, several
from trimtab.task import PREDICTION

Array = NDArray[Any]
# Of `graph.Deployed` and `graph.DeployedNumbers`: what is computed outside the user's module.
BEFORE, AFTER, AFTER_NUMBERS = "preprocess", "softmax", "prediction"


@dataclass(frozen=True)
class Value:
    """What one operation gave.

    Attributes:
        layer: path of the innermost module it belongs to, e.g. "model.0"; "input 'x'" for an input of the graph.
        kind: class of that module, and the operation, e.g. "Conv2d, aten.convolution".
        array: floating point, of any shape.
    """

    layer: str
    kind: str
    array: Array

    def __str__(self) -> str:
        return f"{self.layer} ({self.kind})" if self.kind else self.layer


def layer_values(module: nn.Module, inputs: Mapping[str, Array], output: int = 0) -> list[Value]:
    """Every floating-point result of a module for some rows; the last is its answer.

    Args:
        module: the deployed module, in eval mode; one whose operations cannot be seen gives its answer only.
        inputs: name → array (n, ...). output: which output is the answer, by its place.

    Raises whatever the module raises.
    """
    given = [Value(f"input {name!r}", "", values) for name, values in inputs.items() if values.dtype.kind == "f"]
    recorder = _Recorder(AFTER_NUMBERS if output_of(module) == PREDICTION else AFTER)
    tensors = {name: torch.tensor(values) for name, values in inputs.items()}
    with torch.no_grad(), _hooked(module, recorder), _decomposed(), recorder:
        answer = several(call(module, tensors))[output]
    return [*given, *recorder.values, Value("the answer", "", _array(answer))]


class _Recorder(TorchDispatchMode):
    """Keeps a copy of each floating-point result: later operations may write into the same memory."""

    def __init__(self, after: str) -> None:
        super().__init__()
        self.after = after
        self.values: list[Value] = []
        self.stack: list[tuple[str, str]] = []
        self._entered = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        parts = result if isinstance(result, tuple | list) else [result]
        for part in parts:
            if isinstance(part, Tensor) and part.is_floating_point() and part.numel():
                self.values.append(Value(*self._place(str(func).rsplit(".", 1)[0]), _array(part)))
        return result

    def enter(self, path: str, kind: str) -> None:
        self._entered |= bool(path)
        self.stack.append((path, kind))

    def _place(self, operation: str) -> tuple[str, str]:
        path, kind = self.stack[-1] if self.stack else ("", "")
        if path:
            return path, f"{kind}, {operation}"
        return (self.after if self._entered else BEFORE), operation


@contextlib.contextmanager
def _hooked(module: nn.Module, recorder: _Recorder) -> Iterator[None]:
    handles: list[Any] = []
    for path, layer in module.named_modules():

        def before(layer: nn.Module, _: Any, path: str = path) -> None:
            recorder.enter(path, type(layer).__name__)

        def after(*_: Any) -> None:
            recorder.stack.pop()

        handles += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _decomposed() -> Iterator[None]:
    """Attention as the products it consists of: fused kernels are one operation here and many in a graph."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _array(tensor: Tensor) -> Array:
    return tensor.detach().to("cpu", torch.float32, copy=True).numpy()
