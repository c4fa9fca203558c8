"""optimize → compress → convert → verify → register → promote → serve."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow

from tasks.bench import open_bench, release_run
from tasks.compress import compress
from tasks.convert import convert
from tasks.leftovers import crash_dead_runs
from tasks.naming import described, run_name
from tasks.optimize import optimize
from tasks.promote import promote
from tasks.register import register
from tasks.select import select
from tasks.serve import serve
from tasks.verify import verify

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
        original = optimize(bench, run.before, run.kept)
        candidates = compress(bench, run, original)
        builds = convert(bench, candidates, run.targets, run.unwanted)
        finalists = select(bench, run, candidates, builds)
        verified = verify(bench, run, finalists)
        version = register(bench, run, verified)
        serving = promote(bench, version, reason)
        serve(bench, serving)
        return run.summary(version, serving, verified.figures())
