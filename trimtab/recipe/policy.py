"""What a verdict may start, what the service may cost, and whom alerts reach: the acting half of `monitoring`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from trimtab.recipe.section import Section

Mode = Literal["act", "propose", "observe"]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _variable(value: Any) -> Any:
    """Refuses an address or password that was written down where the name of a variable belongs."""
    if value is not None and not (isinstance(value, str) and _VARIABLE.fullmatch(value)):
        raise ValueError(
            "give the name of an environment variable that holds it (letters, digits, _), not the value itself: "
            "a recipe is no place for secrets"
        )
    return value


Variable = Annotated[str, BeforeValidator(_variable)]


class Breaker(Section):
    """The circuit breaker: reactions that do not help are stopped."""

    failures: int = Field(
        3,
        ge=1,
        description="reactions in a row that did not help; then none is started until `trimtab breaker NAME --close` "
        "or `n` healthy windows in a row",
    )


class Policy(Section):
    """When a verdict becomes a reaction. A rollback needs one clear window; every other reaction all of this."""

    k: int = Field(2, ge=1, description="so many of the last `n` windows must show it")
    n: int = Field(3, ge=1, le=100, description="windows that are looked at")
    cooldown_s: float = Field(300, ge=0, description="least time between two reactions, and after a promotion")
    max_reactions_per_day: int = Field(6, ge=1, description="in any 24 hours")
    breaker: Breaker = Field(default_factory=Breaker)
    proposal_expires_days: float = Field(
        7,
        gt=0,
        le=365,
        allow_inf_nan=False,
        description="mode: propose; what nobody approved for so long cannot be approved any more, and a later "
        "window may ask anew",
    )

    @model_validator(mode="after")
    def _k_of_n(self) -> Policy:
        if self.k > self.n:
            raise ValueError(f"k = {self.k} windows of n = {self.n} can never be: k must be at most n")
        return self


class Service(Section):
    """What the service may do worse than it did: requests that fail, latency, memory, disk."""

    max_error_rise: float = Field(
        0.02, gt=0, lt=1, description="share of requests that may fail beyond what the release is used to"
    )
    max_latency_ratio: float = Field(
        2.0, gt=1, description="median latency over that of the version's first clear window on this host, from 5 ms on"
    )
    max_p99_ms: float | None = Field(None, gt=0, description="of a request as served, from arrival to answer")
    max_rss_mb: float | None = Field(None, gt=0, description="memory of the service's process")
    max_growth: float = Field(
        0.5, gt=0, description="share by which memory, threads or open files may grow steadily: a leak"
    )
    min_disk_mb: float = Field(500, ge=0, description="free space where the journal lies")


class Email(Section):
    """Alerts by mail, through Prefect's webhook block and Apprise."""

    server: Variable = Field(
        description="variable that holds smtp://, smtp+starttls:// or smtps://[user:password@]host[:port]"
    )
    sender: str = Field(pattern=r"^[^@\s,]+@[^@\s,]+$")
    to: list[Annotated[str, Field(pattern=r"^[^@\s,]+@[^@\s,]+$")]] = Field(min_length=1)


class Alerts(Section):
    """Who is told besides the ledger, the log and the Prefect UI. Addresses are read from the environment by `up`."""

    webhook: Variable | None = Field(None, description="variable that holds an http(s) address; it is sent JSON")
    slack: Variable | None = Field(None, description="variable that holds the address of a Slack incoming webhook")
    email: Email | None = None

    def variables(self) -> dict[str, str]:
        """What is set → the environment variable it names."""
        named = {"webhook": self.webhook, "slack": self.slack, "email": self.email.server if self.email else None}
        return {kind: variable for kind, variable in named.items() if variable is not None}


def cooldown_moved(given: Any) -> Any:
    """`monitoring.cooldown_s`, as it was called before there was a policy, becomes `monitoring.policy.cooldown_s`.

    Raises:
        ValueError: both are given.
    """
    if not isinstance(given, Mapping) or "cooldown_s" not in given:
        return given
    policy = given.get("policy") or {}
    if not isinstance(policy, Mapping):
        return given  # refused as what it is
    if "cooldown_s" in policy:
        raise ValueError("cooldown_s and policy.cooldown_s are the same: give the second alone")
    rest = {key: value for key, value in given.items() if key != "cooldown_s"}
    return {**rest, "policy": {**policy, "cooldown_s": given["cooldown_s"]}}
