"""What a forward returns as tensors by path: keys of mappings, fields of named tuples and dataclasses, places of lists.

{"head": {"logits": a}, "hidden": (b, c)} has the paths "head.logits", "hidden.0" and "hidden.1".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor


def leaves(answer: Any) -> dict[str, Any]:
    """Path → what is there, of all that is no container; of a tensor alone the path is ""."""
    return dict(_leaves(answer, ""))


def picked(answer: Any, path: str | None) -> Tensor:
    """The tensor at a path; None takes an answer that is a tensor itself.

    Raises:
        LookupError: there is no tensor; the message says what is there.
    """
    found = answer if path is None else leaves(answer).get(path)
    if not isinstance(found, Tensor):
        raise LookupError(_why(answer, path))
    return found


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    parts = _parts(value)
    if parts is None:
        yield path, value
        return
    for key, part in parts.items():
        yield from _leaves(part, f"{path}.{key}" if path else str(key))


def _parts(value: Any) -> dict[Any, Any] | None:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=True))
    if isinstance(value, tuple | list):
        return dict(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in fields(value)}
    return None


def _why(answer: Any, path: str | None) -> str:
    found = leaves(answer)
    if path is None:
        return f"forward returned {type(answer).__name__}, not one tensor"
    if path in found:
        return f"{path!r} is {type(found[path]).__name__}, not a tensor"
    if isinstance(answer, Tensor):
        return f"forward returned one tensor, so there is no {path!r} in it"
    below = [name for name in found if name.startswith(f"{path}.")]
    return f"{path!r} holds {', '.join(below)}" if below else f"forward returned nothing at {path!r}"
