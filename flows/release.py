"""optimize → compress → convert → verify → register → promote → serve."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow

from tasks.bench import open_bench, release_run
from tasks.leftovers import crash_dead_runs
from tasks.naming import described, run_name
from tasks.serve import serve

RecipePath = Annotated[str, described("Path of the recipe file.")]
HomePath = Annotated[str, described("State directory of the stack.")]
Reason = Annotated[str, described("Why this release is made; it goes into the promotion log.")]
VerdictDigest = Annotated[str | None, described("Retrain on the labelled rows of this verdict's window.")]
CostlyVerdict = Annotated[str | None, described("Compress the champion's original anew: this verdict found it costly.")]


@flow(name="release", flow_run_name=run_name("release {recipe}: {reason}"), log_prints=False)
def release(
    recipe: RecipePath,
    home: HomePath,
    reason: Reason = "manual",
    retrain_verdict: VerdictDigest = None,
    recompress_verdict: CostlyVerdict = None,
) -> dict[str, Any]:
    """Take the recipe's model to a verified, registered, promoted and served release."""
    bench = open_bench(recipe, home, retrain_verdict, recompress_verdict)
    with bench.exclusively(), release_run(bench, reason) as run:
        crash_dead_runs("release", recipe)
        if done := run.done():
            serve(bench, done["version"])
            return done
        from tasks import stages  # ten seconds; to deploy this flow, or where nothing is left to do, they are not spent

        original = stages.optimize(bench, run.before, run.kept)
        candidates = stages.compress(bench, run, original)
        builds = stages.convert(bench, candidates, run.targets, run.unwanted)
        finalists = stages.select(bench, run, candidates, builds)
        verified = stages.verify(bench, run, finalists)
        version = stages.register(bench, run, verified)
        serving = stages.promote(bench, version, reason)
        serve(bench, serving)
        return run.summary(version, serving, verified.figures())
