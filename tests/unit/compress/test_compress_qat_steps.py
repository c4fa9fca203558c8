"""Training for INT8 in a plan: what it is given, what it leaves for the quantizer, what may follow, what is reused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from trimtab.candidate import Candidate, InputsDigest, Step
from trimtab.compress import make as walking
from trimtab.compress import module_steps
from trimtab.compress.graph_steps import GRAPH_STEPS
from trimtab.compress.learned_ranges import learned_of
from trimtab.compress.make import make, planned
from trimtab.compress.qat import Trained
from trimtab.compress.search import plan, precision, with_last_steps
from trimtab.compress.simulate import Coverage
from trimtab.data import from_arrays
from trimtab.errors import UnsupportedError
from trimtab.optimize.record import Fit
from trimtab.recipe.compressing import Clip
from trimtab.recipe.schema import Compress, Preprocess, Prune, Qat, Quantize
from trimtab.store import matches

FIRST = Candidate((Step("train"),), InputsDigest("d", "w", "c", "v"))
RANGES = {"relu": (0.0, 2.5)}
QUANTIZE = Step("quantize", Quantize().model_dump(mode="json"))
Make = Callable[..., Candidate]


def qat(**more: Any) -> Step:
    file = Quantize(per_channel=False).model_dump(mode="json", exclude={"max_drop"})
    return Step("qat", {**Qat(epochs=3).model_dump(mode="json"), "quantize": file, "label": "qat", **more}, 5)


@pytest.fixture
def calls() -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    return []


@pytest.fixture
def bench(tmp_path: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    rows = {"input": np.zeros((8, 4), np.float32)}
    split = from_arrays("train", rows, np.arange(8) % 3)
    kept: dict[str, Candidate] = {}

    def stored(name: str) -> Candidate | None:
        found = kept.get(name)
        return found if found and matches(tmp_path / name, found.files) else None

    def keep(candidate: Candidate) -> Candidate:
        kept[candidate.id] = candidate
        return candidate

    def train(model: nn.Module, *args: Any, **named: Any) -> Trained:
        calls.append((args, named))
        with torch.no_grad():
            model.weight.add_(torch.where(model.weight != 0, 1.0, 0.0))  # type: ignore[union-attr, operator]
        one = {"epoch": 1.0, "validation_accuracy": 0.75}
        return Trained(Fit(1, 1, [one]), RANGES, Coverage(1, 1, (), ("rnn.weight",)))

    monkeypatch.setattr(module_steps, "train_quantized", train)
    for room in (walking, module_steps):
        monkeypatch.setattr(room, "open_torch", lambda *_: nn.Linear(4, 3))
    return SimpleNamespace(
        splits={"train": split, "validation": split},
        example=rows,
        forward=lambda model, inputs: model(inputs["input"]),
        folder=lambda name: tmp_path / name,
        target_folder=lambda name, target: tmp_path / f"{name}.{target}",
        stored=stored,
        keep=keep,
        stored_converted=lambda *_: object(),
        recipe=SimpleNamespace(model=SimpleNamespace(augment=None), preprocess=Preprocess(scale=0.5), axes={}),
    )


def test_the_training_is_given_what_the_step_says(bench: Any, calls: list[Any]) -> None:
    made = make(bench, FIRST, [qat(temperature=2.0, alpha=0.3)])
    [(args, named)] = calls
    assert args[2:4] == (Qat(epochs=3), Quantize(per_channel=False))
    assert args[4] == Preprocess(scale=0.5)
    assert named["softening"] == {"temperature": 2.0, "alpha": 0.3}
    assert isinstance(named["teacher"], nn.Module)
    assert named["seed"] == 5
    assert made.facts["qat"]["in_float"] == ["rnn.weight"]
    assert made.facts["validation_accuracy"] == 0.75


def test_without_a_temperature_there_is_no_teacher(bench: Any, calls: list[Any]) -> None:
    make(bench, FIRST, [qat()])
    assert calls[0][1]["teacher"] is None


def test_the_quantizer_gets_the_ranges_and_a_killed_run_does_not_train_again(
    bench: Any, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def write(_: Any, source: Any, __: Step, out: Path) -> dict[str, Any]:
        seen.append(source)
        if len(seen) == 1:
            raise KeyboardInterrupt
        out.write_bytes(b"graph")
        return {"precision": "int8"}

    monkeypatch.setitem(GRAPH_STEPS, "quantize", write)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        make(bench, FIRST, [qat(), QUANTIZE])
    parent = planned(FIRST, [qat()])
    assert "ranges.json" in bench.stored(parent.id).files
    assert not bench.folder(planned(FIRST, [qat(), QUANTIZE]).id).exists()
    make(bench, FIRST, [qat(), QUANTIZE])
    assert len(calls) == 1
    assert [dict(source.ranges) for source in seen] == [RANGES, RANGES]
    # Ranges that were changed by hand are those of no training: it is made again.
    (bench.folder(parent.id) / "ranges.json").write_text("{}")
    make(bench, FIRST, [qat(), QUANTIZE])
    assert len(calls) == 2
    assert learned_of(bench.folder(parent.id)) == RANGES


def test_a_candidate_that_was_not_trained_for_int8_has_no_ranges(bench: Any) -> None:
    made = make(bench, FIRST, [Step("sparsify", {"sparsity": 0.5, "scope": "global"})])
    assert learned_of(bench.folder(made.id)) == {}


@pytest.mark.parametrize("after", [Step("distil"), Step("half"), Step("quantize_openvino"), Step("clip")])
def test_nothing_but_quantize_may_follow(bench: Any, calls: list[Any], after: Step) -> None:
    with pytest.raises(UnsupportedError, match=f"this plan is qat, {after.method}"):
        make(bench, FIRST, [qat(), after])
    assert not calls


def test_int8_is_planned_without_it_and_with_it() -> None:
    compress = Compress(shorten=None, prune=Prune(norms=["l1"], ratios=[0.5]), clip=Clip(), qat=Qat())
    plans = plan(compress, 7, ["onnxruntime-cpu", "openvino-cpu"])
    labels = [" ".join(step.parameters["label"] for step in steps) for steps in plans]
    assert [label for label in labels if "qat" in label] == ["clip qat int8", "prune-l1-0.5 distil clip qat int8"]
    assert {"clip int8", "prune-l1-0.5 distil clip int8"} <= set(labels)
    assert len(labels) == len(set(labels))
    steps = plans[labels.index("clip qat int8")]
    step = steps[-2]
    assert (step.seed, precision(steps)) == (7, "int8")
    assert (step.parameters["temperature"], step.parameters["alpha"]) == (4.0, 0.9)
    assert "max_drop" not in step.parameters["quantize"]  # which layers stay in float is decided afterwards
    alone = with_last_steps(Compress(distil=None, qat=Qat()), (), ["onnxruntime-cpu"], 7)[-1][0]
    assert "temperature" not in alone.parameters


@pytest.mark.parametrize("quantize", [None, {"mode": "dynamic"}])
def test_it_wants_the_file_it_trains_for(quantize: dict[str, str] | None) -> None:
    with pytest.raises(ValidationError, match="qat needs quantize in mode static"):
        Compress.model_validate({"qat": {}, "quantize": quantize})


def test_zeros_of_a_sparse_model_are_kept_while_it_is_trained(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients: list[Tensor] = []

    def train(model: nn.Module, *_: Any, **__: Any) -> Trained:
        model(torch.ones(2, 4)).sum().backward()
        gradients.append(model.weight.grad)  # type: ignore[arg-type]
        return Trained(Fit(1, 1, [{"epoch": 1.0, "validation_accuracy": 0.5}]), RANGES, Coverage(1, 1, (), ()))

    monkeypatch.setattr(module_steps, "train_quantized", train)
    make(bench, FIRST, [Step("sparsify", {"sparsity": 0.5, "scope": "global"}), qat()])
    assert int((gradients[0] == 0).sum()) == 6
