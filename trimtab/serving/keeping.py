"""What the journal keeps of a request's inputs: all, a share of requests, descriptors, nothing; less what is redacted.

Answers, times and errors are always kept: without them there is nothing to watch. A name that the model does not take
is an error when a release is loaded, not a redaction that silently does nothing.
"""

from __future__ import annotations

import functools
import hmac
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from trimtab.descriptors import descriptors, is_wide
from trimtab.errors import RecipeError
from trimtab.journal.rows import DESCRIPTORS, HASH, REDACTED

Array = np.ndarray
Mode = Literal["full", "sample", "descriptors", "none"]
Acknowledged = Literal["written", "synced"]
_KEYS = {"inputs", "sample", "redact", "hash", "retention_days", "acknowledge"}


@dataclass(frozen=True)
class Keeping:
    """The recipe's `serving.journal`, as the service applies it.

    Attributes:
        inputs: "full"; "sample": those of a share of the requests; "descriptors": five numbers a row in place of each
            wide input, and nothing of narrow ones; "none".
        sample: the share, of "sample" alone.
        redact: inputs that are never written.
        hashed: inputs of one whole number a row, in whose place a keyed hash is written.
        acknowledge: what an answer waits for: "written", its rows survive the end of the service; "synced", a power
            cut too.
    """

    inputs: Mode = "full"
    sample: float = 1.0
    redact: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()
    acknowledge: Acknowledged = "written"

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Keeping:
        """From `journal` of a `serving` section or, where that is not there, from `journal_inputs` (true, false).

        Raises:
            ValueError, TypeError: a key or value is none that is allowed.
        """
        given = section.get("journal")
        if given is None:
            return cls("full" if section.get("journal_inputs", True) else "none")
        if not isinstance(given, Mapping) or set(given) - _KEYS:
            raise ValueError("`journal` has unknown keys, or is no section")
        mode, sample = given.get("inputs", "full"), float(given.get("sample", 0.1))
        redact, hashed = (tuple(given.get(key, ())) for key in ("redact", "hash"))
        names, acknowledge = (*redact, *hashed), given.get("acknowledge", "written")
        if mode not in get_args(Mode) or not 0 < sample <= 1 or not all(isinstance(name, str) for name in names):
            raise ValueError("`journal` has a value that is not allowed")
        if acknowledge not in get_args(Acknowledged):
            raise ValueError("`journal` has a value that is not allowed")
        return cls(mode, sample if mode == "sample" else 1.0, redact, hashed, acknowledge)

    @classmethod
    def from_text(cls, text: str) -> Keeping:
        """From the JSON of a `serving.journal` section, as a command line has it.

        Raises:
            ValueError, TypeError: it is not JSON, or a key or value is none that is allowed.
        """
        return cls.from_json({"journal": json.loads(text)})

    def misfit(self, inputs: Sequence[Mapping[str, Any]]) -> str | None:
        """Why a model's inputs cannot be kept in this way, or None.

        Args:
            inputs: the specification's: name, dtype, shape.
        """
        shapes = {tensor["name"]: tensor["shape"] for tensor in inputs}
        dtypes = {tensor["name"]: str(tensor["dtype"]) for tensor in inputs}
        unknown = [name for name in (*self.redact, *self.hashed) if name not in shapes]
        if unknown:
            return f"the model has no input {unknown[0]!r} (it has {', '.join(shapes)})"
        if both := sorted({*self.redact} & {*self.hashed}):
            return f"{both[0]!r} is both redacted and hashed"
        for name in self.hashed:
            one = list(shapes[name][1:]) in ([], [1])
            if not one or dtypes[name].startswith("float"):
                return (
                    f"{name!r} cannot be hashed: only one whole number a row can be told apart by its hash, not "
                    f"{dtypes[name]} {tuple(shapes[name])}; redact it"
                )
        described = [name for name in shapes if is_wide(shapes[name]) and name not in (*self.redact, *self.hashed)]
        if self.inputs == "descriptors" and not described:
            return "no input is wide enough for descriptors (more than 64 features a row): say full, sample or none"
        return None


def refuse_misfit(section: Mapping[str, Any], example: Mapping[str, Array]) -> None:
    """See that a recipe's `serving.journal` fits its model, before anything is trained.

    Args:
        section: as JSON. example: name → (n, ...), rows as the model takes them.

    Raises:
        RecipeError: it names an input that the model does not have, or says what cannot be done with one.
    """
    inputs = [
        {"name": name, "dtype": str(values.dtype), "shape": ["batch", *values.shape[1:]]}
        for name, values in example.items()
    ]
    if misfit := Keeping.from_json({"journal": section}).misfit(inputs):
        raise RecipeError(misfit, where="serving.journal", fix="correct the names, or how they are kept")


class Keeper:
    """Applies a `Keeping` to requests.

    Args:
        salt: gives the key of the hashes; asked once, when the first is needed.
    """

    def __init__(self, salt: Callable[[], bytes]) -> None:
        self._salt = functools.cache(salt)
        # Not from the request's id, which its sender chooses: who could choose, could stay out of every sample.
        self._random = random.SystemRandom()

    def kept(self, keeping: Keeping, inputs: Mapping[str, Array]) -> dict[str, Array] | None:
        """What is written of the inputs of a request.

        Args:
            inputs: name → (n, ...).

        Returns:
            name → (n, ...), an input itself or behind a prefix what stands in its place, so that whoever reads the
            journal knows that it is left out on purpose; None for nothing at all.
        """
        if keeping.inputs == "none" or (keeping.inputs == "sample" and self._random.random() >= keeping.sample):
            return None
        kept: dict[str, Array] = {}
        for name, values in inputs.items():
            if name in keeping.hashed:
                kept[HASH + name] = self._hashes(name, values)
            elif name in keeping.redact or (keeping.inputs == "descriptors" and not is_wide(values.shape)):
                kept[REDACTED + name] = np.empty((len(values), 0), np.int64)
            elif keeping.inputs == "descriptors":
                kept[DESCRIPTORS + name] = np.stack(list(descriptors(values).values()), axis=1)
            else:
                kept[name] = values
        return kept

    def _hashes(self, name: str, values: Array) -> Array:
        """The first 64 bits of HMAC-SHA256 of each value under the salt; equal values of an input are equal again."""
        flat = np.ascontiguousarray(values, np.int64).reshape(len(values))
        digests = (hmac.digest(self._salt(), name.encode() + b"\0" + value.tobytes(), "sha256") for value in flat)
        return np.array([int.from_bytes(found[:8], "little", signed=True) for found in digests], np.int64)
