"""The first half of the search: shapes measured on the runtimes before anything is trained."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import task
from prefect.logging import get_run_logger

from tasks.caching import JSON_RESULT, content_key
from tasks.progress import Progress
from tasks.shape_stage import Stage
from trimtab.candidate import Candidate, digest_of
from trimtab.compress.assess import predicted
from trimtab.compress.search.explore import Explored, explore, model_of, noise_of, promising
from trimtab.compress.search.record import trial_to_json
from trimtab.compress.search.rounding import asked
from trimtab.compress.search.study import Study
from trimtab.compress.search.survey import Survey
from trimtab.workbench import Workbench

NO_LATENCY = ("search", "distil", "student", "qat", "clip", "coarsen")  # of compress: what changes no latency
EXPLORING = 0.25  # share of the time limit
OFFERED = 3  # times as many shapes are offered for training as are trained, where the front has them


def open_study(bench: Workbench, original: Candidate, host: str, design: list[dict[str, Any]]) -> Study:
    """The study of this original under this recipe on this host."""
    compress = bench.recipe.compress.model_dump(mode="json")
    deciding = {key: value for key, value in compress.items() if key not in NO_LATENCY}
    measure = bench.recipe.measure.model_dump()
    name = digest_of([original.id, host, deciding, list(bench.recipe.targets), measure])[:16]
    return Study(bench.settings.studies / f"{bench.recipe.name}-shapes-{name}.journal", bench.recipe.train.seed, design)


@task(
    name="explore",
    task_run_name="measure shapes before training them",
    cache_key_fn=content_key("explored"),
    **JSON_RESULT,
)
def explore_shapes(bench: Workbench, original: dict[str, Any], host: str) -> dict[str, Any]:
    """The shapes that are offered for training, fastest first, with their latency over the uncut original's.

    Args:
        host: latencies of another host do not count.
    """
    settings = bench.recipe.compress.search
    assert settings is not None
    until = None if settings.minutes is None else time.monotonic() + 60 * EXPLORING * settings.minutes
    log, base = get_run_logger(), Candidate.from_json(original)
    survey, study = Survey(bench, base), open_study(bench, base, host, [])
    with Progress("measuring shapes") as progress, tempfile.TemporaryDirectory(prefix="trimtab-shapes-") as folder:
        stage = Stage(bench, base, survey, study, Path(folder))
        survey.rounding = asked(bench.recipe.compress) or stage.rounding()
        log.info("channel counts are kept multiples of %d: %s", survey.rounding.round_to, survey.rounding.reason)
        space, notes = survey.space()
        for note in notes:
            log.info("not searched: %s", note)
        study.design = space.design()
        trials = settings.trials if not space.empty else 0
        found = explore(
            space,
            study,
            trials,
            survey.probe,
            stage.measure,
            lambda: until is None or time.monotonic() < until,
            lambda done, total: progress(done, total, "shapes"),
        )
        lanes = [lane.name for lane in stage.lanes] if found else []
        unwanted = stage.unwanted() if found else {}
        uncut = {name: asdict(facts) for name, facts in stage.known[0].items()} if found else {}
    # Without distillation nothing is found out by training, and all that are offered are taken.
    offered = settings.shapes * (OFFERED if bench.recipe.compress.distil else 1)
    chosen = promising(found, settings.shapes, offered)
    _report(log.info, found, chosen)
    for (precision, target), reason in unwanted.items():
        log.info("nothing is converted to %s on %s: %s", precision, target, reason)
    score = bench.task.score(predicted(stage.eager, stage.inputs), bench.splits["validation"].labels)
    model = model_of(found)
    return {
        "shapes": [{"shape": one.shape.to_json(), "latency": one.latency, "trial": one.number} for one in chosen],
        "lanes": lanes,
        "uncut": uncut,
        "unwanted": [{"precision": p, "target": t, "reason": reason} for (p, t), reason in unwanted.items()],
        "rounding": survey.rounding.to_json(),
        "accuracy": score,
        "metric": bench.task.metric,
        "noise_floor": noise_of(found),
        "latency_model": asdict(model) if model else None,
        "trials": [trial_to_json(one) for one in found],
    }


def _report(say: Callable[..., None], found: list[Explored], chosen: list[Explored]) -> None:
    model = model_of(found)
    spared = sum(one.measured is None for one in found)
    floor = 100 * noise_of(found)
    say("%d shapes seen, %d of them measured, %d spared by the latency model", len(found), len(found) - spared, spared)
    if found and not chosen:
        say("none of them is faster than the uncut original by more than the noise floor of %.1f %%", floor)
    else:
        say("noise floor: %.1f %%; what is faster by less is not trained", floor)
    if model is not None:
        say(
            "latency model of %d shapes: error %.1f %% for half of them, %.1f %% for nine in ten",
            model.n,
            100 * model.median_error,
            100 * model.error,
        )
    for one in chosen:
        say(
            "worth training: %s, latency %.2f of the uncut, divergence %.2f nats",
            one.shape.label,
            one.latency,
            one.probe.divergence,
        )
