"""What monitoring says of one window, with its evidence; a value that can be stored and compared byte by byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from trimtab.candidate import Interval, digest_of
from trimtab.monitoring.drift import ColumnResult
from trimtab.monitoring.estimate import Estimate
from trimtab.monitoring.findings import Finding
from trimtab.monitoring.label_arrival import LabelArrival
from trimtab.monitoring.metrics import Figure
from trimtab.monitoring.performance import Performance
from trimtab.monitoring.service import ServiceFacts

VerdictKind = Literal[
    "healthy", "drift", "damage", "drift+damage", "damage_estimated", "service", "not_enough_rows", "data_quality"
]
# What verdicts did not always have is left out where it is not there: those of before keep the digest they had.
_SINCE = ("figures", "estimated", "labels", "revision", "replaces", "replaced_kind", "service")


@dataclass(frozen=True)
class Verdict:
    """A verdict.

    Attributes:
        kind: "not_enough_rows" and "data_quality" say nothing about the model; the others do. "service": the service
            passed a limit (errors, latency, memory), and nothing else was found.
        lo, hi: offsets of the window in the journal.
        version: the release version it is about.
        rows: rows judged: answered by that version without an error.
        columns: one result a column; empty when there were not enough rows.
        performance: accuracy on the labelled rows, or the metric that decides.
        errors, other_versions: rows left out: ended in an error, answered by another version.
        duplicates, unknown_labels: labels that came twice, and for request ids that are not in the journal.
        reasons: the verdict in words.
        figures: every metric on the labelled rows, of all of them, by class and by slice.
        estimated: the deciding metric as it is estimated without labels; None where that was not asked for.
        labels: how they arrived.
        revision: how many verdicts on the same rows it follows. replaces: digest of the last of them, and
            replaced_kind: its kind.
        service: how the service did meanwhile; None in verdicts from before it was looked at.
    """

    kind: VerdictKind
    lo: int
    hi: int
    version: str
    rows: int
    columns: tuple[ColumnResult, ...]
    performance: Performance
    errors: int
    other_versions: int
    duplicates: int
    unknown_labels: int
    reasons: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    estimated: Estimate | None = None
    labels: LabelArrival | None = None
    revision: int = 0
    replaces: str | None = None
    replaced_kind: VerdictKind | None = None
    service: ServiceFacts | None = None

    def with_service(self, facts: ServiceFacts | None) -> Verdict:
        """The verdict with what was seen of the service; a breach makes a healthy window one of kind "service".

        So it does where requests failed so often that too few rows were left to judge: that is the release's fault or
        the machine's, not that of the data.
        """
        if facts is None:
            return self
        failing = self.kind == "data_quality" and not self.columns and "errors" in facts.kinds()
        kind: VerdictKind = "service" if failing or (self.kind == "healthy" and facts.breaches) else self.kind
        details = tuple(f"{breach.kind}: {breach.detail}" for breach in facts.breaches)
        return replace(self, kind=kind, service=facts, reasons=(*details, *self.reasons))

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the columns that drifted."""
        return tuple(column.name for column in self.columns if column.drifted)

    @property
    def damaged(self) -> bool:
        """Whether measured damage is part of the verdict."""
        return self.kind in ("damage", "drift+damage")

    @property
    def confirmed(self) -> bool:
        """Whether it measures the damage that the verdict it replaces had estimated."""
        return self.damaged and self.replaced_kind == "damage_estimated"

    @property
    def error_rate(self) -> float:
        """Share of the version's rows that ended in an error."""
        total = self.rows + self.errors
        return self.errors / total if total else 0.0

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the whole verdict: its identity."""
        return digest_of(self._fields())

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe; `digest`, `coverage`, `error_rate` and `drifted` are added for readers."""
        return {
            **self._fields(),
            "digest": self.digest,
            "drifted": list(self.drifted),
            "coverage": self.performance.coverage,
            "error_rate": self.error_rate,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        """The inverse of `to_json`."""
        names = cls.__dataclass_fields__
        fields = {key: entry for key, entry in value.items() if key in names}
        fields["columns"] = tuple(_column(entry) for entry in value["columns"])
        fields["performance"] = _performance(value["performance"])
        fields["reasons"] = tuple(value["reasons"])
        fields["figures"] = tuple(Figure.from_json(entry) for entry in value.get("figures", ()))
        fields["estimated"] = Estimate.from_json(value["estimated"]) if "estimated" in value else None
        fields["labels"] = LabelArrival.from_json(value["labels"]) if "labels" in value else None
        fields["service"] = ServiceFacts.from_json(value["service"]) if "service" in value else None
        return cls(**fields)

    def _fields(self) -> dict[str, Any]:
        plain = asdict(self)
        plain["reasons"] = list(plain["reasons"])
        plain["figures"] = [figure.to_json() for figure in self.figures]
        plain["labels"] = None if self.labels is None else self.labels.to_json()
        plain["service"] = None if self.service is None else self.service.to_json()
        for key in _SINCE:
            if not plain[key]:
                del plain[key]
        for key in ("metric", "of", "undefined"):
            if plain["performance"][key] is None:
                del plain["performance"][key]
        plain["columns"] = [{**column, "findings": list(column["findings"])} for column in plain["columns"]]
        return plain


def _column(value: Mapping[str, Any]) -> ColumnResult:
    return ColumnResult(**{**value, "findings": tuple(Finding(**finding) for finding in value["findings"])})


def _performance(value: Mapping[str, Any]) -> Performance:
    accuracy = value["accuracy"]
    return Performance(
        **{
            **value,
            "accuracy": None if accuracy is None else Interval(**accuracy),
            "verified": Interval(**value["verified"]),
        }
    )
