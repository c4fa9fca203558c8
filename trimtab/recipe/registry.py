"""The recipe's `registry` section."""

from __future__ import annotations

from pydantic import Field

from trimtab.recipe.section import Section


class Registering(Section):
    """What a hand in MLflow may do; it counts from the next `trimtab up RECIPE` on."""

    allow_unverified: bool = Field(
        False,
        description="a version without a record of the gate, set in Production by hand, serves if its signature is "
        "trusted; false: it is put back",
    )
