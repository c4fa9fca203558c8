"""The recipe's `model`, `preprocess` and `convert`: what is compressed, and how it is written."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from trimtab.recipe import keeping
from trimtab.recipe.section import EntryPoint, Section


class Model(Section):
    """The user's model: a callable that returns an `nn.Module` whose forward gives logits (n, classes)."""

    callable: EntryPoint
    kwargs: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the callable")
    train: EntryPoint | None = Field(
        None, description="your own training: callable(model, train, validation) -> None or the module"
    )
    augment: EntryPoint | None = Field(
        None,
        description="callable(inputs, generator) -> inputs: changes each training batch, before preprocess",
    )
    weights: str | None = Field(
        None, description=".safetensors, or a state dict read with weights_only; relative to the recipe"
    )
    answer: keeping.Path | None = Field(
        None, description="where in what forward returns the logits or numbers are, e.g. logits or 0; null: all of it"
    )
    also: dict[keeping.OutputName, keeping.Path] = Field(
        default_factory=dict, description="further outputs of the release, name: path, e.g. embedding: hidden.0"
    )

    @model_validator(mode="after")
    def _outputs_have_names_of_their_own(self) -> Model:
        keeping.refuse_names(self.answer, self.also)
        return self

    def identity(self) -> dict[str, Any]:
        """As candidates are identified by it: without keys that came later and that it does not use."""
        return self.model_dump(exclude={key for key in ("answer", "also") if not getattr(self, key)})


class Preprocess(Section):
    """Numeric pre-processing put inside the graph: (x * scale - mean) / std, mean and std a channel (axis 1)."""

    scale: float = 1.0
    mean: list[float] | None = None
    std: list[Annotated[float, Field(gt=0)]] | None = None


class Convert(Section):
    """How the formats are written."""

    opset: int | None = Field(
        None, ge=18, le=24, description="ONNX operator set of the exported graph; null: the exporter's own"
    )
