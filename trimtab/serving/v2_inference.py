"""One inference request of the Open Inference Protocol (REST) and its answer, JSON with or without binary tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from trimtab.errors import ProtocolError
from trimtab.serving.checked import Array, checked
from trimtab.serving.forms import largest
from trimtab.serving.media import JSON, OCTETS
from trimtab.serving.release import Loaded
from trimtab.serving.request_id import valid_id
from trimtab.serving.v2_tensors import Binary, parameters_of, read_tensor, write_tensor

HEADER_LENGTH = "Inference-Header-Content-Length"
LONGEST_ID = 1024
_DIGITS = re.compile(r"[0-9]{1,12}")
_BAD = "BAD_REQUEST"


class Inference:
    """A request to `…/infer`; a `forms.Form`.

    Args:
        loaded: the release that answers. body: the request's.
        header_length: value of Inference-Header-Content-Length, None where there is none.

    Attributes:
        request_id: the body's `id`, where it can be a request id of ours.
        headers: of the answer.
    """

    def __init__(self, loaded: Loaded, body: bytes, header_length: str | None) -> None:
        self._loaded, self._body, self._header_length = loaded, body, header_length
        self._id: str | None = None
        self._wanted: list[tuple[str, bool]] = []
        self.request_id: str | None = None
        self.headers: dict[str, str] = {}

    def parse(self) -> Mapping[str, Array]:
        """The inputs, checked.

        Raises:
            ProtocolError: 400 or 413, with what is wrong and where.
        """
        message, binary = self._split()
        self._id = _id(message.get("id"))
        self.request_id = self._id if self._id is not None and valid_id(self._id) else None
        spec = self._loaded.predictor.spec
        names = [tensor["name"] for tensor in spec["outputs"]] or [self._loaded.output]
        self._wanted = _wanted(message, names)
        arrays = _inputs(message.get("inputs"), binary)
        binary.finish()
        return checked(spec, arrays, largest(self._loaded.limits))

    def encode(self, outputs: Mapping[str, Array]) -> bytes:
        """The answer: a JSON object, and behind it what was asked for in binary."""
        written = [write_tensor(name, outputs[name], binary=binary) for name, binary in self._wanted]
        answer: dict[str, Any] = {"model_name": self._loaded.name, "model_version": self._loaded.version}
        if self._id is not None:
            answer["id"] = self._id
        answer["outputs"] = [entry for entry, _ in written]
        head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        if not any(binary for _, binary in self._wanted):
            self.headers["Content-Type"] = JSON
            return head
        self.headers |= {"Content-Type": OCTETS, HEADER_LENGTH: str(len(head))}
        return b"".join([head, *(data for _, data in written)])

    def _split(self) -> tuple[dict[str, Any], Binary]:
        """The JSON object, and what is behind it."""
        head, binary = memoryview(self._body), Binary(None)
        if self._header_length is not None:
            if _DIGITS.fullmatch(self._header_length) is None or int(self._header_length) > len(self._body):
                raise ProtocolError("must be the length of the JSON object, in bytes", where=HEADER_LENGTH, code=_BAD)
            length = int(self._header_length)
            head, binary = head[:length], Binary(head[length:])
        try:
            message = orjson.loads(head)
        except orjson.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}"
            raise ProtocolError("the request is not valid JSON", where=place, code=_BAD) from None
        if not isinstance(message, dict):
            raise ProtocolError("the request must be a JSON object with `inputs`", code=_BAD)
        return message, binary


def _id(given: Any) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str) or len(given) > LONGEST_ID:
        raise ProtocolError(f"must be text of at most {LONGEST_ID} characters", where="id", code=_BAD)
    return given


def _inputs(entries: Any, binary: Binary) -> dict[str, Array]:
    if not isinstance(entries, list) or not entries:
        raise ProtocolError("must be a list of tensors", where="inputs", code=_BAD)
    arrays: dict[str, Array] = {}
    for place, entry in enumerate(entries):
        name, values = read_tensor(entry, place, binary)
        if name in arrays:
            raise ProtocolError("has the name of an earlier one", where=f"inputs[{place}]", code=_BAD)
        arrays[name] = values
    return arrays


def _wanted(message: Mapping[str, Any], names: list[str]) -> list[tuple[str, bool]]:
    """The outputs to answer, in order, and which of them in binary."""
    everything = _flag(parameters_of(message, "request"), "binary_data_output", False, "request")
    entries = message.get("outputs")
    if entries is None or entries == []:
        return [(name, everything) for name in names]
    if not isinstance(entries, list):
        raise ProtocolError("must be a list", where="outputs", code=_BAD)
    wanted: dict[str, bool] = {}
    for place, entry in enumerate(entries):
        where = f"outputs[{place}]"
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name in wanted or name not in names:
            raise ProtocolError(f"must name an output of the model, once each: {names}", where=where)
        parameters = parameters_of(entry, where)
        for extension in ("classification", "shared_memory_region"):
            if extension in parameters:
                raise ProtocolError(f"asks for the extension {extension}, which is not there", where=where, code=_BAD)
        wanted[name] = _flag(parameters, "binary_data", everything, where)
    return list(wanted.items())


def _flag(parameters: Mapping[str, Any], key: str, default: bool, where: str) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise ProtocolError("must be true or false", where=f"{where}.parameters.{key}", code=_BAD)
    return value
