"""How a retrain uses the journal: which windows, how much a row of them counts, and where training starts from."""

from __future__ import annotations

from pydantic import Field

from trimtab.recipe.section import Section

MOST_WINDOWS = 100
MOST_WEIGHT = 1000.0


class Retraining(Section):
    """What a retrain learns from besides the base data."""

    windows: int | None = Field(
        None,
        ge=1,
        le=MOST_WINDOWS,
        description="of the last so many windows of the version those that show damage give their labelled rows, its "
        "own always; null: policy.n",
    )
    weight: float = Field(
        1.0,
        gt=0,
        le=MOST_WEIGHT,
        allow_inf_nan=False,
        description="how many base rows a row of the journal counts as in training and early stopping",
    )
    warm_start: bool = Field(
        True, description="start from the weights of the champion's original; false: as a first release starts"
    )

    def reach(self, n: int) -> int:
        """Windows that are looked at, by default those of the policy."""
        return n if self.windows is None else self.windows
