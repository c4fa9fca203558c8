"""Of `serving`: TLS, and what the journal keeps; and what of the section travels with a release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from trimtab.recipe.section import Section
from trimtab.recipe.trials import LATER, is_untouched

if TYPE_CHECKING:
    from trimtab.recipe.serving import Serving

OF_THE_PLACE: Any = {"auth": True, "tls": True, "journal": {"retention_days"}}


class Tls(Section):
    """Certificate and key of the scoring service, PEM files."""

    certificate: str = Field(min_length=1, description="with what is between it and its root behind it")
    key: str = Field(min_length=1, description="not encrypted, readable by its owner alone")


class Journalling(Section):
    """What the journal keeps of the inputs of requests, and for how long. Answers are always kept."""

    inputs: Literal["full", "sample", "descriptors", "none"] = Field(
        "full", description="sample: of a share of the requests; descriptors: five numbers in place of each wide input"
    )
    sample: float = Field(0.1, gt=0, le=1, description="the share, of inputs: sample")
    redact: list[str] = Field(default_factory=list, description="inputs that are never written")
    hash: list[str] = Field(
        default_factory=list, description="inputs of one whole number a row, written as a keyed hash"
    )
    acknowledge: Literal["written", "synced"] = Field(
        "written", description="what an answer waits for: its rows survive the end of the service, or a power cut too"
    )
    retention_days: int | None = Field(
        None, ge=1, description="rows and labels older than this are deleted once nothing needs them; null: never"
    )

    @model_validator(mode="after")
    def _one_of_redact_and_hash(self) -> Journalling:
        if both := sorted({*self.redact} & {*self.hash}):
            raise ValueError(f"{both[0]!r} is in both redact and hash")
        return self


def with_old_key(given: Any) -> Any:
    """A `serving` section as written, with `journal_inputs` said in the words of `journal`.

    Raises:
        ValueError: both say something of the inputs.
    """
    old = given.get("journal_inputs") if isinstance(given, dict) else None
    if not isinstance(old, bool):
        return given  # absent, or refused as what it is
    journal = given.get("journal") or {}
    if not isinstance(journal, dict):
        return given
    if "inputs" in journal:
        raise ValueError("journal_inputs is the older name of journal.inputs: give one of them")
    return {**given, "journal": {**journal, "inputs": "full" if old else "none"}}


def released(serving: Serving) -> dict[str, Any]:
    """What of `serving` belongs to a release, as its release.json has it: not where it is served and for how long rows
    are kept.

    What is at the default of keys that came later is left out, so that a release is the same release as before.
    """
    plain = serving.model_dump(mode="json", exclude=OF_THE_PLACE)
    plain = {key: value for key, value in plain.items() if key not in LATER or not is_untouched(serving, key)}
    plain["journal_inputs"] = serving.journal.inputs == "full"
    if serving.journal.acknowledge == "written":
        del plain["journal"]["acknowledge"]
    if plain["journal"] == Journalling().model_dump(mode="json", exclude={"retention_days", "acknowledge"}):
        del plain["journal"]
    return plain
