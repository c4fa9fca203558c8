"""The form of a request to /invocations that is not JSON or CSV answered in JSON: how it is read and how answered.

JSON and CSV answered in JSON are MLflow's own protocol, which `Engine.score` speaks by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from trimtab.serving import images, media
from trimtab.serving.arrow import read_arrow, write_arrow
from trimtab.serving.checked import MOST_GROWTH, Array, checked
from trimtab.serving.engine import encode
from trimtab.serving.limits import Limits
from trimtab.serving.protocol import parse
from trimtab.serving.raw import read_npy, read_octets, write_npy, write_octets
from trimtab.serving.release import Loaded

Headers = Mapping[str, str]


class Form(Protocol):
    """How one request is read and answered. Made for that request; `parse` is called first, then `encode`."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer, its Content-Type among them; whole once `encode` has returned."""

    @property
    def request_id(self) -> str | None:
        """What the body calls the request, once `parse` has returned; None where it does not."""

    def parse(self) -> Mapping[str, Array]:
        """The inputs, checked; raises ProtocolError."""

    def encode(self, outputs: Mapping[str, Array]) -> bytes:
        """The answer's body."""


Choose = Callable[[Loaded, bytes, Headers], Form | None]


@dataclass
class Invocation:
    """A request to /invocations: its body read as its Content-Type says, its answer written as Accept asks."""

    read: Callable[[], Mapping[str, Array]]
    asked: str
    output: str
    headers: dict[str, str] = field(default_factory=dict)
    request_id: str | None = None

    def parse(self) -> Mapping[str, Array]:
        """The inputs, checked."""
        return self.read()

    def encode(self, outputs: Mapping[str, Array]) -> bytes:
        """The answer: all outputs as JSON or Arrow, or the model's main one as raw bytes or .npy."""
        self.headers["Content-Type"] = self.asked
        if self.asked == media.JSON:
            return encode(outputs)
        if self.asked == media.ARROW:
            return write_arrow(outputs)
        main = outputs[self.output]
        if self.asked == media.NPY:
            return write_npy(main)
        body, described = write_octets(self.output, main)
        self.headers.update(described)
        return body


def of_invocation(loaded: Loaded, body: bytes, headers: Headers) -> Form | None:
    """The form of a request; None for MLflow's own protocol, which is spoken without any of this.

    Raises:
        ProtocolError: 415 for a type that is not taken, when it is read.
    """
    kind, asked = media.bare(headers.get("content-type")), media.answer_type(headers.get("accept"))
    reader = _reader(kind, loaded, body, headers)
    if reader is None and asked == media.JSON:
        return None
    spec = loaded.predictor.spec
    if reader is None:
        return Invocation(partial(parse, body, headers.get("content-type"), spec), asked, loaded.output)
    most_bytes = largest(loaded.limits)
    return Invocation(lambda: checked(spec, reader(), most_bytes), asked, loaded.output)


def largest(limits: Limits) -> int:
    """How many bytes of tensors a request may become."""
    return MOST_GROWTH * limits.max_body


def _reader(kind: str, loaded: Loaded, body: bytes, headers: Headers) -> Callable[[], Mapping[str, Array]] | None:
    """What reads a body of this type; None for MLflow's own, and for what is refused."""
    spec = loaded.predictor.spec
    if kind == media.OCTETS:
        return partial(read_octets, body, headers, spec)
    if kind == media.NPY:
        return partial(read_npy, body, spec)
    if kind == media.ARROW:
        return partial(read_arrow, body, spec)
    if kind in images.TYPES:
        return partial(images.read_images, loaded, body, headers, largest(loaded.limits))
    return None
