"""Where one request is answered: the release, the engine that runs it, and the journal that remembers it."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.serving.engine import Engine
from trimtab.serving.limits import Limits
from trimtab.serving.recording import Recorder
from trimtab.serving.release import Loaded
from trimtab.serving.routing import HEADER, Alias

VERSION = "X-Trimtab-Version"


@dataclass(frozen=True)
class Lane:
    """The way of one request.

    Attributes:
        alias: in whose place it is answered. recorder: None where rows are not kept.
        rescue: the champion's lane, where the challenger has the request only as its share.
    """

    alias: Alias
    loaded: Loaded
    engine: Engine
    recorder: Recorder | None
    rescue: Lane | None = None

    @property
    def limits(self) -> Limits:
        """What holds for reading the request: the champion's where it may have to answer."""
        return (self.rescue or self).loaded.limits

    def admit(self) -> None:
        """Refuse early.

        Raises:
            Busy: too many requests wait.
        """
        self.engine.admit(self.loaded)

    def headers(self) -> dict[str, str]:
        """What the answer says of it."""
        return {VERSION: self.loaded.version, HEADER: self.alias}
