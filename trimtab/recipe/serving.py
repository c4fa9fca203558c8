"""The recipe's `serving` section."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from trimtab.recipe.guarding import Journalling, Tls, with_old_key
from trimtab.recipe.images import Images
from trimtab.recipe.section import Section
from trimtab.recipe.trials import Canary, Promotion, Shadow, refuse_unfounded


class Batching(Section):
    """Requests that wait at the same moment may be answered by one call of the model."""

    mode: Literal["auto", "on", "off"] = Field(
        "auto",
        description="auto: where it was measured to pay when the release was loaded; on: wherever the limits allow",
    )
    max_rows: int = Field(32, ge=1, description="most rows of a shared call; a larger request still goes alone")
    max_wait_ms: float = Field(
        5.0, ge=0, description="most that sharing may add to a call of one row, as measured; nobody is waited for"
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _not_a_boolean(cls, value: Any) -> Any:
        """YAML 1.1 reads on and off as true and false."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class Serving(Section):
    """How the champion is served."""

    backend: Literal["trimtab", "mlflow"] = "trimtab"
    threads: int = Field(1, ge=1)
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="calls of the model at once, each with its threads; auto: measured when a release is loaded"
    )
    processes: Literal["auto"] | Annotated[int, Field(ge=0, le=64)] = Field(
        0,
        description="processes that run the model, one call at a time each; 0: it runs in the service; auto: measured "
        "when a release is loaded",
    )
    batching: Batching = Field(default_factory=Batching)
    max_queue: int = Field(64, ge=1, description="requests waiting; beyond it 503 with Retry-After")
    max_queue_per_client: int | None = Field(
        None,
        ge=1,
        description="unfinished requests of one client address; beyond it 429 with Retry-After; null: no limit",
    )
    max_body_mb: float = Field(16, gt=0, description="largest body, as sent and as it is after decompression")
    max_elements: int = Field(4_000_000, ge=1, description="most values in one body of JSON or CSV")
    auth: bool = Field(False, description="only with a token: `trimtab tokens add`; of the service, not of the release")
    tls: Tls | None = Field(None, description="https; of the service, not of the release")
    journal: Journalling = Field(default_factory=Journalling)
    journal_inputs: bool | None = Field(None, description="older name of journal.inputs: true is full, false is none")
    images: Images | None = None
    drain_s: float = Field(10, ge=4, le=60, description="from SIGTERM to the end of the process at the latest")
    canary: Canary | None = Field(None, description="requests that this release answers while it is the challenger")
    shadow: Shadow | None = Field(None, description="copies it runs, and is compared on, while it is the challenger")
    promotion: Promotion | None = Field(None, description="what it must have shown to be promoted; null: the gate")

    @model_validator(mode="before")
    @classmethod
    def _old_key(cls, given: Any) -> Any:
        return with_old_key(given)

    @model_validator(mode="after")
    def _stock_has_neither_auth_nor_tls(self) -> Serving:
        if self.backend == "mlflow" and (self.auth or self.tls is not None):
            raise ValueError("backend: mlflow has neither auth nor tls: leave them out, or serve with trimtab's own")
        return self

    @model_validator(mode="after")
    def _calls_at_once_are_said_once(self) -> Serving:
        if self.processes not in ("auto", 0) and self.workers != "auto":
            raise ValueError(
                "processes: each makes one call at a time, so their number is that of workers: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _trials_have_an_effect(self) -> Serving:
        refuse_unfounded(self)
        return self
