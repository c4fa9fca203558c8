"""What MLflow shows of a release name, as a value: its aliases and stages, by their names. No mlflow import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
PRODUCTION, ARCHIVED = "Production", "Archived"


@dataclass(frozen=True)
class Shown:
    """Aliases and stages of a release name.

    Attributes:
        aliases: alias → version.
        stages: version → stage; every version there is.
        touched: version → when MLflow last changed it, a stage included (milliseconds since 1970).
    """

    aliases: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[int, str] = field(default_factory=dict)
    touched: Mapping[int, int] = field(default_factory=dict)
