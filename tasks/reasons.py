"""What the finalists' decisions, or numbers, rest on, beside what the original's do."""

from __future__ import annotations

from typing import Any

from trimtab.candidate import Candidate, Converted
from trimtab.compress.assess import parent_of, predicted
from trimtab.compress.opening import open_torch
from trimtab.convert.of_recipe import deployed_of
from trimtab.verify.attribution.agreement import Agreement
from trimtab.verify.attribution.explainer import explainer
from trimtab.verify.attribution.occlusion import ROWS_A_CALL
from trimtab.workbench import Workbench


class Reasons:
    """Attributions of the original, taken once, and of each finalist against them.

    Args:
        baseline: the original's predictor; whose answers are explained.
    """

    def __init__(self, bench: Workbench, original: Candidate, baseline: Any) -> None:
        self._bench = bench
        self._explainer = explainer(bench)
        if self._explainer is not None:
            self._decided = self._explainer.decided(predicted(baseline, self._explainer.inputs))
            self._original = self._explainer.attributions(baseline, lambda: self._module(original), self._decided)

    def of(self, build: Converted, candidate: Candidate, predictor: Any, confidence: float) -> Agreement | None:
        """A finalist's, compared with the original's; None where the recipe asks for none."""
        if self._explainer is None:
            return None
        rewritten = candidate.format != "torch"
        source = parent_of(self._bench, candidate) if rewritten else candidate
        alone = build.precision == "int8-dynamic"  # which scales its activations by the whole batch
        own = self._explainer.attributions(
            predictor, lambda: self._module(source), self._decided, 1 if alone else ROWS_A_CALL
        )
        gradients = self._explainer.settings.method == "integrated_gradients"
        note = "of the torch module that the graph was made from, without its rewriting" if gradients else ""
        return self._explainer.compared(self._original, own, self._decided, confidence, note if rewritten else "")

    def _module(self, candidate: Candidate) -> Any:
        bench = self._bench
        return deployed_of(bench, open_torch(bench, candidate), deciding=True)
