"""The recipe's `budget`, `measure` and `verify`: what is accepted, and how that is found out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trimtab.recipe.section import EntryPoint, Section


class Budget(Section):
    """What the user accepts. Accuracy is decided by the interval, not the point."""

    max_drop: float = Field(
        0.03,
        ge=0,
        lt=1,
        description="non-inferiority margin: lower bound of (candidate - original) >= -max_drop; of rmse and mae the "
        "relative worsening: 0.03 is an error 3 % larger",
    )
    max_slice_drop: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="the same margin for every class and every slice of verify.slices; null: they are shown only",
    )
    min_speedup: float = Field(1.0, gt=0, description="at the first batch size, against eager PyTorch, median")
    min_size_ratio: float = Field(1.0, gt=0, description="bytes of the original's FP32 weights over bytes shipped")
    max_p99_ms: float | None = Field(None, gt=0, description="at the first batch size")
    max_disagreement: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of answers that differ from the torch model: other decisions, or numbers "
        "beyond verify.tolerance",
    )
    max_output_difference: float | None = Field(
        None,
        gt=0,
        description="of each output of model.also: root mean square difference from the original's, over that of its "
        "values; null: it is shown only",
    )
    max_calibration_rise: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="upper bound of the rise of the expected calibration error, which regression has none of; null: it "
        "is shown only",
    )
    min_attribution_correlation: float | None = Field(
        None,
        gt=-1,
        lt=1,
        description="lower bound of the mean rank correlation of attributions; null: it is shown only",
    )


class Measure(Section):
    """How latency is measured: interleaved rounds with the baseline."""

    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [1, 32], min_length=1)
    threads: int = Field(1, ge=1)
    rounds: int = Field(9, ge=3, description="interleaved rounds at the gate")
    screening_rounds: int = Field(3, ge=3, description="the same when all builds are compared on validation")
    calls: int = Field(30, ge=1, description="timed calls a round and predictor")


class Explain(Section):
    """What answers rest on: attributions of original and candidate on the same validation rows, compared."""

    method: Literal["occlusion", "integrated_gradients"] = Field(
        "occlusion", description="integrated_gradients: of the torch module, by Captum (pip install 'trimtab[explain]')"
    )
    samples: int = Field(16, ge=2, description="validation rows")
    patch: int | None = Field(
        None, ge=1, description="side of an image's squares, in pixels; null: an eighth of its shorter side"
    )


class Verify(Section):
    """The gate: measured on the `gate` split, which nothing else ever sees."""

    confidence: float = Field(0.95, gt=0.5, lt=1)
    finalists: int = Field(3, ge=1, description="how many candidates may try the gate; intervals are corrected for it")
    also: list[str] = Field(
        default_factory=list, description="further splits the gate is measured on, e.g. a known drift"
    )
    slices: EntryPoint | None = Field(
        None, description="callable(split) -> mapping of name to bools, one a row; classes are always slices"
    )
    atol: float = Field(
        1e-4,
        gt=0,
        description="largest absolute difference of FP32 outputs from torch; of regression, as a share of their scale",
    )
    tolerance: float = Field(
        0.1,
        gt=0,
        description="of regression: a compressed answer counts as another one beyond this share of the answers' "
        "standard deviation",
    )
    explain: Explain | None = Field(default_factory=Explain)
