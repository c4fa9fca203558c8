"""Everything that was measured on a finalist, as one value: what the gate decides on and the report shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from trimtab.candidate import Json, Latency
from trimtab.errors import DataError
from trimtab.verify.accuracy import Paired
from trimtab.verify.attribution.agreement import Agreement
from trimtab.verify.numbers import PairedNumbers, paired_from_json
from trimtab.verify.parity import Parity
from trimtab.verify.reliability import Trust
from trimtab.verify.rival import Rival
from trimtab.verify.slices import Slices
from trimtab.verify.throughput import Throughput


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against one candidate on one target.

    Attributes:
        paired: split → candidate against the original on that split; "gate" and the recipe's further splits.
        versus_champion: split → candidate against the serving champion; None when there is no champion.
        parity: the converted candidate against the torch model it was converted from.
        latency: batch size → Latency against the eager original; the first one counts for the budget.
        noise_floor: batch size → largest |ratio - 1| of the baseline against itself, same run.
        size_bytes: as shipped. original_size_bytes: FP32 weights of the original.
        must_improve: the split on which a retrained candidate has to beat the champion, if any.
        baseline_latency: batch size → Latency of the eager original, for the report.
        slices: candidate against the original on each class and slice of the gate; None where there is none (a
            regression without slices of its own).
        trust: how far the probabilities of both can be trusted, on the gate; None of a regression, which has none.
        attributions: what the answers of both rest on, on validation; None where it was not asked for.
        throughput: requests a second with several callers, by "original" and "candidate".
        rival: on a recompression, candidate and champion at the figure that was too much; None elsewhere.
        accuracy: of a classifier that another metric decides on, its accuracy on the gate; None elsewhere.
    """

    paired: Mapping[str, Paired | PairedNumbers]
    parity: Parity
    latency: Mapping[int, Latency]
    noise_floor: Mapping[int, float]
    size_bytes: int
    original_size_bytes: int
    versus_champion: Mapping[str, Paired | PairedNumbers] | None = None
    must_improve: str | None = None
    baseline_latency: Mapping[int, Latency] = field(default_factory=dict)
    slices: Slices | None = None
    trust: Trust | None = None
    attributions: Agreement | None = None
    throughput: Mapping[str, Throughput] = field(default_factory=dict)
    rival: Rival | None = None
    accuracy: Paired | None = None

    def __post_init__(self) -> None:
        """Refuse evidence that cannot decide anything.

        Raises:
            DataError: no split, no latency, no size, or an improvement asked for on a split that was not compared.
        """
        if not self.paired or not self.latency:
            raise DataError("no accuracy or no latency was measured", where="evidence")
        if set(self.latency) - set(self.noise_floor):
            raise DataError("a batch size has no noise floor", where="evidence", fix="use one measure() for both")
        if self.size_bytes < 1 or self.original_size_bytes < 1:
            raise DataError(f"{self.size_bytes} and {self.original_size_bytes} bytes are no sizes", where="evidence")
        if self.must_improve is not None and self.must_improve not in (self.versus_champion or {}):
            raise DataError(
                f"must improve on {self.must_improve!r}, which was not compared with the champion",
                where="evidence.must_improve",
                fix="measure champion and candidate on that split",
            )

    @property
    def first_batch(self) -> int:
        """The batch size the budget speaks of: the first measured."""
        return next(iter(self.latency))

    @property
    def size_ratio(self) -> float:
        """Bytes of the original's FP32 weights over bytes shipped."""
        return self.original_size_bytes / self.size_bytes

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe; what is keyed by batch size becomes a list, so the order survives sorted keys."""
        champion = self.versus_champion
        return {
            "paired": {name: value.to_json() for name, value in self.paired.items()},
            "versus_champion": None if champion is None else {k: v.to_json() for k, v in champion.items()},
            "parity": self.parity.to_json(),
            "latency": [asdict(value) for value in self.latency.values()],
            "baseline_latency": [asdict(value) for value in self.baseline_latency.values()],
            "noise_floor": [[batch, value] for batch, value in self.noise_floor.items()],
            "size_bytes": self.size_bytes,
            "original_size_bytes": self.original_size_bytes,
            "must_improve": self.must_improve,
            "slices": None if self.slices is None else self.slices.to_json(),
            "trust": None if self.trust is None else self.trust.to_json(),
            "attributions": None if self.attributions is None else self.attributions.to_json(),
            "throughput": {name: asdict(one) for name, one in self.throughput.items()},
            "rival": None if self.rival is None else self.rival.to_json(),
            **({} if self.accuracy is None else {"accuracy": self.accuracy.to_json()}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Evidence:
        """The inverse of `to_json`."""
        champion = value["versus_champion"]
        return cls(
            paired={name: paired_from_json(one) for name, one in value["paired"].items()},
            versus_champion=None if champion is None else {k: paired_from_json(v) for k, v in champion.items()},
            parity=Parity.from_json(value["parity"]),
            latency={one["batch"]: Latency(**one) for one in value["latency"]},
            baseline_latency={one["batch"]: Latency(**one) for one in value["baseline_latency"]},
            noise_floor=dict(value["noise_floor"]),
            size_bytes=value["size_bytes"],
            original_size_bytes=value["original_size_bytes"],
            must_improve=value["must_improve"],
            slices=None if value["slices"] is None else Slices.from_json(value["slices"]),
            trust=None if value["trust"] is None else Trust.from_json(value["trust"]),
            attributions=None if value["attributions"] is None else Agreement.from_json(value["attributions"]),
            throughput={name: Throughput(**one) for name, one in value["throughput"].items()},
            rival=None if value.get("rival") is None else Rival.from_json(value["rival"]),
            accuracy=None if value.get("accuracy") is None else Paired.from_json(value["accuracy"]),
        )
