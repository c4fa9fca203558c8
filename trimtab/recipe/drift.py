"""What a user writes about drift: which test a column gets, its threshold, and further columns of their own."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from trimtab.recipe.section import Section

ForNumbers = Literal["anderson", "ks", "wasserstein", "psi", "jensenshannon", "hellinger", "TVD", "chisquare"]
ForCategories = Literal["psi", "jensenshannon", "hellinger", "TVD", "chisquare"]
RESERVED = ("predicted", "confidence", "entropy", "prediction", "label", "row")


def _free(name: str) -> str:
    if name in RESERVED:
        raise ValueError(f"{name!r} is a column of ours; choose another name")
    return name


OwnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,59}$"), AfterValidator(_free)]


class ColumnRule(Section):
    """How one column is watched; what is left out follows from its type."""

    kind: Literal["numeric", "categorical", "datetime"] | None = Field(
        None, description="its type, where the reference misleads; counts from the next release on"
    )
    method: ForNumbers | None = Field(None, description="its test; anderson, ks and wasserstein are for numbers")
    threshold: float | None = Field(
        None, gt=0, description="drift from this score on; null: calibrated to the sizes of reference and window"
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> ColumnRule:
        if self.kind == "datetime" and (self.method is not None or self.threshold is not None):
            raise ValueError("points in time always move on and are not tested: leave method and threshold out")
        if self.kind == "categorical" and self.method not in (None, *get_args(ForCategories)):
            raise ValueError(
                f"{self.method} is for numbers, categories take one of {', '.join(get_args(ForCategories))}"
            )
        return self


class Drift(Section):
    """Which test each column gets, and how long gradual drift is gathered."""

    numeric: ForNumbers = Field("anderson", description="test of numeric columns")
    categorical: ForCategories = Field("jensenshannon", description="test of categories, booleans and constants")
    columns: dict[str, ColumnRule] = Field(default_factory=dict, description="by the column's name, e.g. `input[3]`")
    memory: int = Field(20, ge=0, le=1000, description="windows that gradual drift is gathered over; 0: it is not")
