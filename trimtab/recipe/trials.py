"""How a challenger is tried beside the champion, and what it must have shown before it is promoted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from trimtab.recipe.section import Section

if TYPE_CHECKING:
    from trimtab.recipe.serving import Serving

# Keys of `serving` that came later; at their defaults they are no part of what identifies a release.
LATER = (
    *("canary", "shadow", "promotion", "drain_s", "images"),
    *("workers", "processes", "batching", "max_queue_per_client", "max_elements"),
)


class Canary(Section):
    """Requests that the challenger answers instead of the champion."""

    percent: float = Field(0, ge=0, le=100, description="share of requests, by the hash of the request id")
    header: bool = Field(True, description="whether X-Trimtab-Alias: challenger asks for it")

    @model_validator(mode="after")
    def _routes_something(self) -> Canary:
        if self.percent == 0 and not self.header:
            raise ValueError("percent 0 without header routes nothing: leave canary out")
        return self


class Shadow(Section):
    """Copies of answered requests that the challenger runs afterwards, compared with what was answered."""

    percent: float = Field(100, gt=0, le=100, description="share of the requests that the champion answered")
    tolerance: float = Field(
        0.1, gt=0, description="of regression: numbers further apart than this share of the larger one disagree"
    )


class Promotion(Section):
    """What a challenger must have shown against the champion before it is promoted."""

    min_requests: int = Field(200, ge=1, description="requests that it ran against the champion that serves now")
    min_agreement: float | None = Field(
        None, gt=0, le=1, description="share of shadow rows decided as the champion did"
    )
    max_latency_ratio: float | None = Field(
        None, gt=0, description="time of the model alone over the champion's, geometric mean of shadow requests"
    )
    max_error_rate: float | None = Field(0.01, ge=0, le=1, description="share of its requests that failed")


def refuse_unfounded(serving: Serving) -> None:
    """Refuse keys that could never have an effect, or never let anything be promoted.

    Raises:
        ValueError: the first of them, and what to do.
    """
    for wrong in _unfounded(serving):
        raise ValueError(wrong)


def is_untouched(section: Section, key: str) -> bool:
    """Whether a key is at its default."""
    field = type(section).model_fields[key]
    return bool(getattr(section, key) == field.get_default(call_default_factory=True))


def _unfounded(serving: Serving) -> Iterator[str]:
    rule = serving.promotion
    if serving.backend == "mlflow":
        yield from (
            f"{key} is of backend: trimtab; the stock server has no challenger: leave it out"
            for key in ("canary", "shadow", "promotion")
            if getattr(serving, key) is not None
        )
    if rule is not None and serving.shadow is None:
        if rule.min_agreement is not None or rule.max_latency_ratio is not None:
            yield "promotion.min_agreement and max_latency_ratio are measured on shadow copies: set shadow too"
        if serving.canary is None:
            yield "promotion has nothing to go by: set shadow or canary too"
