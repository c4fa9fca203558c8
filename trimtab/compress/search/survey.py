"""What the search needs to see of a model before it starts, and what it sees of each shape: all without training."""

from __future__ import annotations

import copy

import torch
from torch import nn

from trimtab.candidate import Candidate
from trimtab.compress.batchnorm import reestimate
from trimtab.compress.divergence import divergence_of, log_probabilities
from trimtab.compress.groups import groups
from trimtab.compress.module_steps import MODULE_STEPS, NORM_ROWS, RANKING_ROWS, rows_of
from trimtab.compress.opening import open_torch
from trimtab.compress.search.explore import Probe
from trimtab.compress.search.features import features_of, shares
from trimtab.compress.search.grid import ROUND_TO
from trimtab.compress.search.rounding import Rounding, asked, shapes_to_measure
from trimtab.compress.search.shape import Shape
from trimtab.compress.search.space import Space
from trimtab.compress.sensitivity import channel_sensitivity
from trimtab.compress.shorten import ranked
from trimtab.errors import UnsupportedError
from trimtab.workbench import Workbench


class Survey:
    """Cuts shapes out of the original and sees what that does to its answers and its size."""

    def __init__(self, bench: Workbench, original: Candidate) -> None:
        self.bench = bench
        self.module = open_torch(bench, original)
        self.rows = {name: torch.from_numpy(values) for name, values in rows_of(bench, RANKING_ROWS).items()}
        self.answers = log_probabilities(self.module, self.rows, bench.forward)
        self.features = features_of(self.module, self.rows, bench.forward)
        self.rounding = asked(bench.recipe.compress) or Rounding(ROUND_TO, "not measured yet")
        self._last: tuple[str, nn.Module] | None = None

    def space(self) -> tuple[Space, list[str]]:
        """What may be chosen for this model, and a line for each method that it cannot bear, with the reason."""
        compress, notes = self.bench.recipe.compress, list[str]()
        blocks: dict[str, float] = {}
        sensitivity: dict[str, dict[float, float]] = {}
        if compress.shorten is not None:
            try:
                blocks = dict(ranked(self.module, rows_of(self.bench, RANKING_ROWS), self.bench.forward))
            except UnsupportedError as error:
                notes.append(str(error))
        if compress.prune is not None:
            found = groups(self.module, self.bench.example, self.bench.forward, self.rounding.round_to)
            notes += [f"{group.root}: {group.reason}" for group in found if group.reason]
            able = [group for group in found if not group.reason]
            sensitivity = channel_sensitivity(
                self.module,
                self.rows,
                self.bench.forward,
                able,
                compress.prune.ratios,
                compress.prune.norms[0],
                data=self.bench.splits["train"],
                seed=self.bench.recipe.train.seed,
            )
        return Space(blocks, sensitivity, compress.prune.norms if compress.prune is not None else ("l2",)), notes

    def cut(self, shape: Shape) -> nn.Module:
        """The original cut to a shape, its batch norms re-estimated, not trained; the last one is kept at hand.

        Raises:
            UnsupportedError: the model cannot be cut so.
        """
        if self._last is None or self._last[0] != shape.key:
            self._last = shape.key, self._cut(shape, self.rounding.round_to)
        return self._last[1]

    def widths(self) -> dict[int, nn.Module]:
        """The original at the widths that its rounding is measured at: channels above a multiple of 16 → module.

        Latency does not depend on weights, so batch norms are left as the cut leaves them.

        Raises:
            UnsupportedError: a width cannot be cut.
        """
        found = groups(self.module, self.bench.example, self.bench.forward, 1)
        return {offset: self._cut(shape, 1, settle=False) for offset, shape in shapes_to_measure(found).items()}

    def _cut(self, shape: Shape, round_to: int, settle: bool = True) -> nn.Module:
        module = copy.deepcopy(self.module)
        for step in shape.steps(round_to, self.bench.recipe.train.seed):
            MODULE_STEPS[step.method](self.bench, module, step)
            if settle:
                reestimate(module, rows_of(self.bench, NORM_ROWS), self.bench.forward)
        return module

    def probe(self, shape: Shape) -> Probe:
        """Its divergence and features.

        Raises:
            UnsupportedError: the model cannot be cut so.
        """
        module = self.cut(shape)
        divergence = divergence_of(self.answers, log_probabilities(module, self.rows, self.bench.forward))
        features = features_of(module, self.rows, self.bench.forward)
        return Probe(max(divergence, 0.0), shares(features, self.features))
