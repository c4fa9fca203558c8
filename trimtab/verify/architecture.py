"""Latency of an architecture before it is trained: it does not depend on the weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from trimtab import runtime
from trimtab.candidate import Json
from trimtab.convert import convert
from trimtab.convert.code import code_of
from trimtab.convert.of_recipe import deployed_of, spec_for
from trimtab.optimize.tried import Speed
from trimtab.runtime.eager import Predictor as Eager
from trimtab.verify.latency import measure
from trimtab.workbench import Workbench


def speed_of(bench: Workbench, kwargs: Mapping[str, Json]) -> Speed:
    """Build, convert in FP32 to each target of the recipe, and time it against the recipe's own architecture, eager.

    Args:
        kwargs: arguments of the model's callable, in place of the recipe's.

    Raises:
        UserCodeError, ModelError: it is not built. ConversionError, UnsupportedError: a target cannot hold it.
    """
    recipe, spec = bench.recipe, spec_for(bench)
    first = recipe.measure.batch_sizes[0]
    settings = recipe.measure.model_copy(update={"batch_sizes": [first], "rounds": recipe.measure.screening_rounds})
    module = deployed_of(bench, bench.build(**kwargs))
    baseline = Eager(deployed_of(bench, bench.build()), spec, settings.threads)
    predictors: dict[str, Any] = {}
    with _threads_kept(), tempfile.TemporaryDirectory(prefix="trimtab-untrained-") as folder:
        for target in recipe.targets:
            out = Path(folder) / target
            out.mkdir()
            code, opset = code_of(bench, kwargs), recipe.convert.opset
            convert("untrained", target, module, bench.example, spec, out, code=code, opset=opset)
            predictors[target] = runtime.load(target, out, settings.threads)
        with bench.measuring():
            timings = measure(baseline, predictors, bench.splits["validation"].inputs, settings)
    fastest = max(recipe.targets, key=lambda target: timings.by_name[target][first].speedup)
    latency = timings.by_name[fastest][first]
    return Speed(latency.p50_s, 1 / latency.speedup, fastest)


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Eager and TorchScript set torch's threads for the process, and the training that follows takes what it finds."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
