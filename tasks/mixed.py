"""Between 2 and 3: INT8 that loses more than the budget is offered again with its most sensitive layers in float."""

from __future__ import annotations

import onnx
from prefect import task
from prefect.logging import get_run_logger

from tasks.bench import ReleaseRun
from tasks.caching import JSON_RESULT, content_key
from tasks.candidates import made
from tasks.edges import after, ended, quoted
from trimtab.candidate import Candidate
from trimtab.compress.assess import BASELINE, reference
from trimtab.compress.convert_candidate import GRAPH_FILES
from trimtab.compress.layer_sensitivity import answers
from trimtab.compress.search.mixed import may_be_mixed, mixed_plans
from trimtab.workbench import Workbench


@task(name="judge int8", task_run_name="judge int8 before converting", cache_key_fn=content_key("judge"), **JSON_RESULT)
def judge(bench: Workbench, candidates: list[str]) -> dict[str, float]:
    """Id → accuracy on validation of quantized ONNX graphs."""
    validation = bench.splits["validation"]
    found = {}
    for candidate in candidates:
        graph = onnx.load(bench.folder(candidate) / GRAPH_FILES["onnx"])
        found[candidate] = float((answers(graph, validation.inputs).argmax(1) == validation.labels).mean())
    return found


def mixed(bench: Workbench, run: ReleaseRun, original: Candidate, candidates: list[Candidate]) -> list[Candidate]:
    """What is made besides the candidates of a search; nothing without one."""
    search = bench.recipe.compress.search
    if search is None or run.search is None:
        return []
    if not bench.task.by_accuracy:  # `max_drop` of the quantizer, which keeps layers in float, counts right answers
        get_run_logger().info("layers are kept in float by accuracy alone: none is tried for %s", bench.task.name)
        return []
    wanted = [candidate.id for candidate in candidates if may_be_mixed(candidate.lineage)]
    accuracy = {original.id: run.search.accuracy}
    for candidate in candidates:
        if candidate.id != original.id and candidate.format == "torch" and "validation_accuracy" in candidate.facts:
            accuracy[candidate.id] = float(candidate.facts["validation_accuracy"])
    counted_from = reference(candidates, {BASELINE: run.search.accuracy, **accuracy}, search.reference)
    base = {BASELINE: run.search.accuracy, **accuracy}[counted_from]
    state = judge(*quoted(bench, wanted), wait_for=after(bench, *wanted), return_state=True)
    quantized = ended(bench, "judge", state) if wanted else {}
    plans = mixed_plans(candidates, {**accuracy, **quantized}, base, bench.recipe.budget.max_drop)
    for steps in plans:
        get_run_logger().info(
            "%s loses more than the budget in INT8: tried again with layers in float",
            " ".join(str(step.parameters.get("label", step.method)) for step in steps[:-1]) or "original",
        )
    offered = [made(bench, original, steps) for steps in plans]
    return [one for one in offered if one is not None]
