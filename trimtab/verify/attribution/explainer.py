"""Attributions for a release: which rows, in which parts, by which method; the same for original and candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trimtab.errors import UnsupportedError
from trimtab.recipe.schema import Explain
from trimtab.verify.attribution.agreement import Agreement, compare_attributions
from trimtab.verify.attribution.gradients import check_gradients, integrated_gradients
from trimtab.verify.attribution.occlusion import ROWS_A_CALL, log_odds, number, occlusion
from trimtab.verify.attribution.regions import Layout, divide, usual

if TYPE_CHECKING:
    from torch import nn

    from trimtab.workbench import Workbench

Array = np.ndarray
SPLIT = "validation"


@dataclass(frozen=True)
class Explainer:
    """What is explained, and how.

    Attributes:
        rows: int (n,), places in the validation split. inputs: name → array (n, ...), those rows.
        replacement: name → one row, what stands in a part that is taken away.
        numbers: whether it is a regression, whose answered numbers are explained instead of decisions.
    """

    settings: Explain
    rows: Array
    inputs: dict[str, Array]
    layout: Layout
    replacement: dict[str, Array]
    numbers: bool = False

    def decided(self, answers: Array) -> Array:
        """What is explained of each row, int (n,): the class it was given; of a regression which of its k numbers.

        Ranks are compared within a row, so that numbers of any unit may take turns: row after row the next one.

        Args:
            answers: of the original on the rows here, float (n, classes) or (n, k).
        """
        return np.arange(len(answers)) % answers.shape[1] if self.numbers else answers.argmax(axis=1)

    def attributions(
        self, predictor: Any, module: Callable[[], nn.Module], decided: Array, rows_a_call: int = ROWS_A_CALL
    ) -> Array:
        """Float (n, regions): what each part speaks for the decided class, or adds to the number.

        Args:
            predictor: is asked by occlusion. module: makes the torch module that gradients are taken of.
            rows_a_call: 1 where a row's answer depends on the rows beside it.
        """
        if self.settings.method == "integrated_gradients":
            return integrated_gradients(module(), self.inputs, decided, self.layout, self.replacement, self.numbers)
        worth = number if self.numbers else log_odds
        return occlusion(predictor, self.inputs, decided, self.layout, self.replacement, rows_a_call, worth)

    def compared(
        self, original: Array, candidate: Array, decided: Array, confidence: float, note: str = ""
    ) -> Agreement:
        """`compare_attributions` of the rows here."""
        method = self.settings.method
        return compare_attributions(original, candidate, self.rows.tolist(), decided.tolist(), confidence, method, note)


def why_unexplained(bench: Workbench) -> str | None:
    """Why a release of this recipe has no attributions; None where it has."""
    settings = bench.recipe.verify.explain
    if settings is None:
        return "verify.explain is null"
    try:
        parts = len(divide(bench.example, settings.patch).regions)
    except UnsupportedError as error:
        return error.what
    return "an input of one part has nothing to compare" if parts < 2 else None


def check_explain(bench: Workbench) -> None:
    """Refuse what was asked for and cannot be had, before anything is trained.

    Raises:
        UnsupportedError: the budget speaks of attributions and the inputs have no parts, or integrated gradients cannot
            be taken.
    """
    settings, why = bench.recipe.verify.explain, why_unexplained(bench)
    if why is not None and bench.recipe.budget.min_attribution_correlation is not None:
        raise UnsupportedError(why, where="budget.min_attribution_correlation", fix="set it to null")
    if settings is not None and settings.method == "integrated_gradients":
        check_gradients(bench.example)


def explainer(bench: Workbench) -> Explainer | None:
    """The recipe's; None where there is none. Rows are drawn from validation, the same ones every time."""
    settings = bench.recipe.verify.explain
    if settings is None or why_unexplained(bench) is not None:
        return None
    split = bench.splits[SPLIT]
    samples = min(settings.samples, len(split))
    rows = np.sort(np.random.default_rng(0).choice(len(split), samples, replace=False))
    inputs = {name: values[rows] for name, values in split.inputs.items()}
    layout = divide(inputs, settings.patch)
    return Explainer(settings, rows, inputs, layout, usual(bench.splits["train"].inputs), bench.task.regression)
