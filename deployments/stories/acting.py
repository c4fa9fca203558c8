"""Stories in which something must happen: retrain, recompress, roll back, and stop when it does not help."""

from __future__ import annotations

import numpy as np

from deployments.stories.code import rows, turned
from deployments.stories.stage import Stage, check


def sudden_drift(stage: Stage) -> None:
    """Drift, damage in two of three windows, a retrain, and recovered accuracy on what is served."""
    stage.begin(policy="{k: 2, n: 3, cooldown_s: 0}")
    check(stage.judged(*rows(0))["verdict"] == "healthy", "it begins healthy")
    features, labels = rows(1)
    before = stage.send(turned(features), labels)
    first = stage.monitor()
    check(first["verdict"] == "drift+damage", "the first drifted window is damaged", first)
    check(first["decision"]["action"] == "alert", "one window is said, not acted on", first)
    check(stage.judged(turned(rows(2)[0]), rows(2)[1])["decision"]["action"] == "retrain", "two windows are acted on")
    check(stage.finished()["outcome"] == "version 2 serves", "the retrain is promoted", stage.entries("reactions"))
    stage.wait_for("version 2 answers", lambda: stage.serving() == "2")
    features, fresh = rows(3)
    after = stage.send(turned(features), fresh)
    lost, found = stage.accuracy(before, labels), stage.accuracy(after, fresh)
    check(found > 0.85 > lost, "accuracy recovers on rows never seen", lost, found)
    verdict = stage.monitor()
    check(verdict["verdict"] == "healthy", "the watch says so too", verdict)
    check(len(stage.acts("started")) == 1, "one episode, one reaction", stage.acts("started"))


def latency(stage: Stage) -> None:
    """A release that is many times slower than the one before: recompressed, and as served it is faster."""
    stage.begin(quantize="null", max_latency_ratio=1.5)
    check(stage.judged(*rows(0))["verdict"] == "healthy", "the small model is healthy")
    stage.write(quantize="null", max_latency_ratio=1.5, width=5000, epochs=2)
    check(stage.command("release", stage.recipe)["version"] == 2, "the large one is released")
    stage.wait_for("version 2 answers", lambda: stage.serving() == "2")
    stage.write(max_latency_ratio=1.5, width=5000, epochs=2)  # the recipe allows INT8 from now on
    found = stage.judged(*rows(1))
    check(found["decision"]["action"] == "recompress", "the latency is a breach", found)
    done = stage.finished()
    check(done["outcome"] == "version 3 serves", "the recompressed one beats it", done)
    stage.wait_for("version 3 answers", lambda: stage.serving() == "3")
    stage.judged(*rows(2))
    slow, fast = (stage.watch.verdicts()[place].service for place in (-2, -1))
    assert slow is not None
    assert fast is not None
    ratio = slow.latency["p50"].value / fast.latency["p50"].value
    check(ratio > 1, "it is faster as served", slow.latency, fast.latency)


def bad_promotion(stage: Stage) -> None:
    """A release that was gated on wrong labels: rolled back on the first window that shows it."""
    stage.begin(policy="{k: 2, n: 3, cooldown_s: 3600}")
    check(stage.judged(*rows(0))["verdict"] == "healthy", "it begins healthy")
    (stage.recipe.parent / "mistake").touch()
    check(stage.command("release", stage.recipe)["version"] == 2, "the wrong one passes its gate")
    stage.wait_for("version 2 answers", lambda: stage.serving() == "2")
    found = stage.judged(*rows(1))
    check(found["decision"]["action"] == "rollback", "one clear window is enough", found)
    stage.wait_for("version 1 answers", lambda: stage.serving() == "1")
    check(stage.finished()["version"] == 1, "the ledger says so", stage.acts("finished"))
    features, labels = rows(2)
    answered = stage.send(features, labels)
    check({one["version"] for one in answered} == {"1"}, "proven by what is served", answered[0])
    check(stage.accuracy(answered, labels) > 0.9, "and by its answers", stage.accuracy(answered, labels))
    after = stage.monitor()
    check(after["verdict"] == "healthy", "the watch agrees", after)
    check(len(stage.acts("started")) == 1, "nothing else is started", stage.acts("started"))


def late_labels(stage: Stage) -> None:
    """Labels come three windows late: the estimate alerts, the labels confirm it, and one retrain follows."""
    stage.begin(label_wait_s=0, policy="{k: 2, n: 3, cooldown_s: 0}")
    check(stage.judged(*rows(0))["verdict"] == "healthy", "it begins healthy")
    waiting = []
    for seed in (1, 2, 3):
        features, labels = rows(seed)
        waiting.append((stage.send(turned(features)), labels))
        found = stage.monitor()
        check(found["decision"]["action"] in ("alert", "none"), "an estimate only alerts", found)
    stage.wait_for("the alert of the estimate", lambda: stage.alerts("estimated") or stage.alerts("drift"))
    check(stage.acts("started") == [], "nothing is retrained on an estimate", stage.acts("started"))
    for answered, labels in waiting:
        stage.label(answered, labels)

    def confirmed() -> bool:
        stage.monitor()
        return bool(stage.acts("started"))

    stage.wait_for("the labels confirm it", confirmed)
    check(stage.finished()["outcome"] == "version 2 serves", "the retrain is promoted", stage.acts("finished"))
    stage.monitor()
    check(len(stage.acts("started")) == 1, "one retrain", stage.acts("started"))


def proposal(stage: Stage) -> None:
    """The recipe asks a person: the reaction waits as a suspended flow run until somebody agrees, then it is done."""
    stage.begin(mode="propose")
    features, labels = rows(1)
    found = stage.judged(turned(features), labels)
    check(found["decision"]["needs_approval"], "a retrain is proposed", found)
    stage.wait_for("it is asked for", lambda: stage.acts("proposed"))
    run = stage.acts("proposed")[0]["run"]
    stage.wait_for("its flow run waits", lambda: stage.prefect("GET", f"/flow_runs/{run}")["state"]["type"] == "PAUSED")
    stage.wait_for("somebody is told", lambda: stage.alerts("proposal"))
    stage.monitor()
    check(stage.acts("started") == [], "nothing is done meanwhile", stage.acts("started"))
    stage.command("approve", stage.name)
    check(stage.finished()["outcome"] == "version 2 serves", "it is done once agreed", stage.acts("finished"))
    check([one["run"] for one in stage.acts("started")] == [run], "by the run that waited", stage.acts("started"))
    check(len(stage.acts("proposed")) == 1, "asked once", stage.acts("proposed"))


def breaker(stage: Stage) -> None:
    """Labels that nothing can learn: two retrains that change nothing, then the breaker, said once."""
    stage.begin(policy="{k: 1, n: 3, cooldown_s: 0, breaker: {failures: 2}}")
    random = np.random.default_rng(0)
    for count, seed in enumerate((1, 2), start=1):
        features, labels = rows(seed)
        found = stage.judged(turned(features), random.permutation(labels))
        check(found["decision"]["action"] == "retrain", f"attempt {count} is made", found)
        check(stage.finished(count)["version"] is None, "it changes nothing, and says so", stage.finished(count))
    for seed in (3, 4):
        features, labels = rows(seed)
        found = stage.judged(turned(features), random.permutation(labels))
        check(found["decision"]["action"] in ("alert", "none"), "the breaker is open", found)
        stage.wait_for("the alert of the breaker", lambda: stage.alerts("breaker"))
    stage.monitor()
    check(len(stage.alerts("breaker")) == 1, "it is said once", stage.entries("alerts"))
    check(len(stage.acts("started")) == 2, "no third attempt", stage.acts("started"))
    check(stage.command("breaker", stage.name)["open"], "a person sees that it is open")
    check(not stage.command("breaker", stage.name, "--close", "--why", "labels mended")["open"], "and closes it")
    check(stage.serving() == "1", "the same version serves", stage.serving())
