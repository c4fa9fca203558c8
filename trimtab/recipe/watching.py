"""The recipe's `monitoring`: when the watch looks, at how much, and what it may start."""

from __future__ import annotations

from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, model_validator

from trimtab.recipe.drift import Drift, OwnName
from trimtab.recipe.performance import Judging
from trimtab.recipe.policy import Alerts, Mode, Policy, Service, cooldown_moved
from trimtab.recipe.retraining import Retraining
from trimtab.recipe.section import EntryPoint, Section


class Schedule(Section):
    """When monitoring runs: an interval in seconds or a cron line, always with a time zone."""

    interval_s: int | None = Field(None, ge=10)
    cron: str | None = None
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _one_of(self) -> Schedule:
        if (self.interval_s is None) == (self.cron is None):
            raise ValueError("give exactly one of interval_s and cron")
        if self.cron is not None and len(self.cron.split()) != 5:
            raise ValueError(f"cron: {self.cron!r} is no line of five fields (minute hour day month weekday)")
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"timezone: {self.timezone!r} is no time zone, e.g. Europe/Berlin or UTC") from None
        return self


class Window(Section):
    """A window closes after `rows` scored rows; its labels are waited for at most `label_wait_s`."""

    rows: int = Field(200, ge=30)
    min_labels: int = Field(50, ge=1, description="measured damage needs at least so many labelled rows")
    label_wait_s: float = Field(600, ge=0)


class Monitoring(Judging):
    """The watch: what a verdict is made from and what it may start."""

    schedule: Schedule = Field(default_factory=lambda: Schedule(interval_s=60, cron=None))
    window: Window = Field(default_factory=Window)
    drift_alpha: float = Field(0.01, gt=0, lt=1, description="family-wise false-alarm rate a window, over all columns")
    drift: Drift = Field(default_factory=Drift)
    descriptors: dict[OwnName, EntryPoint] = Field(
        default_factory=dict,
        description="columns of your own, name: module:callable; it gets inputs {name: rows} and gives a number a row",
    )
    report: Literal["unhealthy", "always"] = Field(
        "unhealthy", description="which windows get a page and an Evidently snapshot: those not healthy, or all"
    )
    max_damage: float = Field(
        0.05, gt=0, lt=1, description="accuracy below the verified one by more than this is damage; drops as max_drop's"
    )
    mode: Mode = Field(
        "act", description="propose: a reaction waits for a click in the Prefect UI; observe: it is only said"
    )
    policy: Policy = Field(default_factory=Policy)
    service: Service = Field(default_factory=Service)
    alerts: Alerts = Field(default_factory=Alerts)
    sweep: Schedule = Field(
        default_factory=lambda: Schedule(interval_s=None, cron="30 3 * * *"),
        description="when what dead releases left in the registry is cleared",
    )
    holdout: float = Field(0.3, gt=0, lt=1, description="share of the journal rows kept from training on a retrain")
    retraining: Retraining = Field(default_factory=Retraining)

    @model_validator(mode="before")
    @classmethod
    def _cooldown_where_it_was(cls, given: Any) -> Any:
        return cooldown_moved(given)
