"""How a challenger asks to be tried: `serving.canary` and `serving.shadow` in its own release.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab.errors import StateError

WHERE = "release.json: serving"


@dataclass(frozen=True)
class Trial:
    """What reaches a challenger; by default nothing.

    Attributes:
        canary_percent: share of requests that it answers, 0 to 100.
        by_header: whether `X-Trimtab-Alias: challenger` asks for it.
        shadow_percent: share of the champion's requests that it runs a copy of, 0 to 100.
        tolerance: of a regression: numbers further apart than this share of the larger one disagree.
    """

    canary_percent: float = 0.0
    by_header: bool = False
    shadow_percent: float = 0.0
    tolerance: float = 0.1

    @property
    def answers(self) -> bool:
        """Whether any request is answered by it."""
        return self.canary_percent > 0 or self.by_header

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Trial:
        """From the keys canary and shadow; where they are absent or null, nothing of the kind happens.

        Raises:
            StateError: a value is of another type, or no percentage.
        """
        canary, shadow = section.get("canary") or {}, section.get("shadow") or {}
        try:
            trial = cls(
                canary_percent=float(canary.get("percent", 0)),
                by_header=bool(canary.get("header", bool(canary))),
                shadow_percent=float(shadow.get("percent", 100 if shadow else 0)),
                tolerance=float(shadow.get("tolerance", cls.tolerance)),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise StateError(f"canary or shadow is not readable: {error}", where=WHERE) from None
        if not (0 <= trial.canary_percent <= 100 and 0 <= trial.shadow_percent <= 100 and trial.tolerance > 0):
            raise StateError("canary.percent and shadow.percent must be within 0 and 100", where=WHERE)
        return trial
