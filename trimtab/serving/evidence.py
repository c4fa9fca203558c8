"""The promotion rule: what a challenger must have shown against the champion, and what of it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trimtab.errors import StateError
from trimtab.journal.outcomes import Tally
from trimtab.serving.trial import WHERE


@dataclass(frozen=True)
class Rule:
    """`serving.promotion` of a release; what is None is not asked for.

    Attributes:
        min_requests: requests that it ran; shadow requests alone where agreement or latency is asked for.
        min_agreement: share of compared rows. max_latency_ratio: its time over the champion's, geometric mean.
        max_error_rate: share of its requests, shadow and canary.
    """

    min_requests: int
    min_agreement: float | None = None
    max_latency_ratio: float | None = None
    max_error_rate: float | None = None

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Rule | None:
        """From the key promotion of a release's `serving`; None where it asks for nothing.

        Raises:
            StateError: it is not readable; a rule that cannot be read lets nothing through.
        """
        given = section.get("promotion")
        if given is None:
            return None
        try:
            shares = {key: given.get(key) for key in ("min_agreement", "max_latency_ratio", "max_error_rate")}
            numbers = {key: None if value is None else float(value) for key, value in shares.items()}
            return cls(int(given["min_requests"]), **numbers)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise StateError(f"promotion is not readable: {type(error).__name__} {error}", where=WHERE) from None

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    @property
    def compares(self) -> bool:
        """Whether it rests on shadow copies."""
        return self.min_agreement is not None or self.max_latency_ratio is not None


def missing(rule: Rule, tally: Tally) -> list[str]:
    """What the rule asks for and the tally does not show, one sentence with figures each; empty if nothing is missing.

    Example: a rule of 200 requests and 0.95 agreement, a tally of 150 requests that agree in 140 of 150 rows, give
    "150 shadow requests, 200 are needed" and "decided 93.3% of 150 rows as the champion did, 95.0% are needed".
    """
    ran, kind = (tally.shadowed, "shadow requests") if rule.compares else (tally.requests, "requests")
    said = [] if ran >= rule.min_requests else [f"{ran} {kind}, {rule.min_requests} are needed"]
    agreement, ratio, errors = tally.agreement, tally.latency_ratio, tally.error_rate
    if rule.min_agreement is not None and (agreement is None or agreement < rule.min_agreement):
        shown = (
            "no row was compared"
            if agreement is None
            else f"decided {agreement:.1%} of {tally.rows} rows as the champion did"
        )
        said.append(f"{shown}, {rule.min_agreement:.1%} are needed")
    if rule.max_latency_ratio is not None and (ratio is None or ratio > rule.max_latency_ratio):
        shown = "its time was not compared" if ratio is None else f"takes {ratio:.2f} times as long as the champion"
        said.append(f"{shown}, {rule.max_latency_ratio:.2f} times are allowed")
    if rule.max_error_rate is not None and errors is not None and errors > rule.max_error_rate:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.errors.items()))
        said.append(f"{errors:.1%} of its {tally.requests} requests failed ({kinds}), {rule.max_error_rate:.1%} may")
    return said
