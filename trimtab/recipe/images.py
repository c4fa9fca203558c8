"""The recipe's `serving.images` section: how an image file becomes the model's input."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trimtab.recipe.section import Section


class Images(Section):
    """How JPEG and PNG files become the input, before the graph's own pre-processing; null: they are refused."""

    mode: Literal["RGB", "L"] = Field("RGB", description="RGB for an input (n, 3, h, w), L (grey) for (n, 1, h, w)")
    scale: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="a pixel of 0 to 255 becomes pixel * scale; 0.00392156862745098 is 1/255",
    )
    resize: bool = Field(
        False, description="to the input's size (bilinear, the ratio is not kept); false: another size is refused"
    )
