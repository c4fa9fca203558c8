"""Clustered, packed and halved weights with several outputs: layers of every output are stored so, and answer so."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from tasks.evidence import _parity
from trimtab.candidate import Candidate, Step
from trimtab.compress import cluster, pack_sparse
from trimtab.compress.assess import eager, open_build, parent_of, validated
from trimtab.compress.convert_candidate import convert_candidate
from trimtab.compress.make import make
from trimtab.compress.opening import open_torch
from trimtab.compress.search.grid import distilled
from trimtab.compress.sparsify import sparsify
from trimtab.data import Array
from trimtab.optimize.original import make_original
from trimtab.registry.package import read_spec
from trimtab.settings import Settings
from trimtab.task import Metric, Task
from trimtab.workbench import Workbench

CODE = """
import numpy as np, torch
from torch import nn
from torch.utils.data import TensorDataset

def split(name):
    random = np.random.default_rng({"train": 1, "validation": 2, "gate": 3}[name])
    values = random.normal(size=(120, 40)).astype(np.float32)
    return TensorDataset(torch.from_numpy(values), torch.from_numpy((values[:, 0] > 0).astype(np.int64)))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.side = nn.Linear(40, 64), nn.Linear(64, 2), nn.Linear(64, 48)

    def forward(self, input):
        hidden = torch.tanh(self.body(input))
        return {"logits": self.head(hidden), "states": [hidden, self.side(hidden)]}

def build():
    return Net()
"""
RECIPE = """
name: a
data: stored_net:split
model: {callable: stored_net:build, answer: logits, also: {hidden: "states.0", side: "states.1", raw: logits}}
train: {epochs: 4, lr: 0.01, threads: 1}
targets: [onnxruntime-cpu, openvino-cpu]
compress:
  search: null
  quantize: null
  prune: null
  shorten: null
  distil: {epochs: 2, threads: 1}
  sparsify: {sparsities: [0.8]}
  cluster: {bits: 3}
  half: {}
"""
NAMES = ["probabilities", "hidden", "side", "raw"]
SPARSE = Step("sparsify", {"sparsity": 0.8, "scope": "global", "label": "sparse"})
PACK = Step("pack_sparse", {"label": "packed"})
TARGETS = ["onnxruntime-cpu", "openvino-cpu"]
LARGE = ("body", "side")  # the head is too small to be stored otherwise


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    folder = tmp_path_factory.mktemp("stored")
    (folder / "stored_net.py").write_text(CODE)
    (folder / "recipe.yaml").write_text(RECIPE)
    return Workbench(folder / "recipe.yaml", Settings(home=folder / "home"))


@pytest.fixture(scope="module")
def original(bench: Workbench) -> Candidate:
    return bench.keep(make_original(bench))


def answers(bench: Workbench, candidate: Candidate, target: str) -> dict[str, Array]:
    build = bench.stored_converted(candidate.id, target) or bench.keep_converted(
        convert_candidate(bench, candidate, target)
    )
    given = open_build(bench, build).predict(bench.splits["gate"].inputs)
    assert list(given) == NAMES
    assert [one["name"] for one in read_spec(bench.target_folder(candidate.id, target))["outputs"]] == NAMES
    return given


def by_hand(bench: Workbench, weights: dict[str, Array], parent: Candidate) -> dict[str, Array]:
    """What the module answers with the weights that are stored in the file; a layer is known by its size."""
    module = copy.deepcopy(open_torch(bench, parent)).eval()
    with torch.no_grad():
        for name in LARGE:
            own = module.get_parameter(f"{name}.weight")
            found = next(one for one in weights.values() if one.size == own.numel())
            own.copy_(torch.from_numpy(found if found.shape == own.shape else found.T))
        asked = {name: torch.from_numpy(values) for name, values in bench.splits["gate"].inputs.items()}
        logits, *others = bench.forward.everything(module, asked)
    return dict(zip(NAMES, [logits.softmax(1).numpy(), *(one.numpy() for one in others)], strict=True))


def far_from(given: dict[str, Array], other: dict[str, Array]) -> list[str]:
    return [name for name in NAMES if np.abs(given[name] - other[name]).max() > 1e-3 * np.abs(other[name]).max()]


@pytest.mark.parametrize("target", TARGETS)
def test_clustered_layers_of_every_output_answer_with_the_weights_that_are_stored(
    bench: Workbench, original: Candidate, target: str
) -> None:
    step = Step("cluster", {"bits": 3, "label": "cluster-3"})
    made = bench.keep(make(bench, original, [step]))
    stored = cluster.decode(bench.folder(made.id) / "model.onnx")
    assert made.facts["layers"] == len(stored) == len(LARGE)
    assert all(len(np.unique(values)) <= 8 for values in stored.values())
    given, expected = answers(bench, made, target), by_hand(bench, stored, original)
    assert far_from(given, expected) == []
    assert far_from(given, answers(bench, original, target)) == NAMES  # other weights, so other answers


@pytest.mark.parametrize("target", TARGETS)
def test_a_sparse_candidate_answers_every_output_as_its_module_packed_or_not(
    bench: Workbench, original: Candidate, target: str
) -> None:
    steps = [SPARSE, *distilled(bench.recipe.compress, seed=0)]
    assert [step.method for step in steps] == ["sparsify", "distil"]
    sparse = bench.keep(make(bench, original, steps))
    packed = bench.keep(make(bench, original, [*steps, PACK]))
    stored = pack_sparse.decode(bench.folder(packed.id) / "model.onnx")
    for name in LARGE:
        own = open_torch(bench, sparse).get_parameter(f"{name}.weight")
        found = next(one for one in stored.values() if one.size == own.numel())
        assert int((found == 0).sum()) == int((own == 0).sum()) > own.numel() // 2
    given = answers(bench, packed, target)
    assert far_from(given, eager(bench, sparse).predict(bench.splits["gate"].inputs)) == []
    assert far_from(given, answers(bench, sparse, target)) == []


def test_a_layer_of_a_further_output_alone_is_cut_as_those_of_the_deciding_one(
    bench: Workbench, original: Candidate
) -> None:
    module = open_torch(bench, original)
    facts = sparsify(module, 0.8)
    assert facts["weights"] == 40 * 64 + 64 * 2 + 64 * 48
    assert 0.5 < float((module.get_parameter("side.weight") == 0).double().mean()) < 1


@pytest.mark.parametrize("metric", ["accuracy", "f1", "roc_auc", "log_loss"])
def test_what_a_search_goes_by_is_the_score_of_the_module_on_validation(
    bench: Workbench, original: Candidate, metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench.keep(make(bench, original, [SPARSE, *distilled(bench.recipe.compress, seed=0)]))
    monkeypatch.setattr(type(bench), "task", Task.of(metric))
    validation = bench.splits["validation"]
    given = eager(bench, made).predict(validation.inputs)["probabilities"]
    assert validated(bench, made) == pytest.approx(Task.of(metric).score(given, validation.labels))


@pytest.mark.parametrize(
    ("steps", "own", "originals"),
    [
        ([Step("cluster", {"bits": 3, "label": "cluster-3"})], (1e-3, 0.5), (1e-3, 0.5)),
        ([Step("half", {"label": "half"})], (1e-7, 1e-3), (1e-7, 1e-3)),
        ([SPARSE, PACK], (0, 1e-5), (0.1, 1.5)),
    ],
    ids=["cluster", "half", "packed"],
)
def test_the_gate_is_told_how_far_each_output_is_from_its_module_and_from_the_originals(
    bench: Workbench,
    original: Candidate,
    steps: list[Step],
    own: tuple[float, float],
    originals: tuple[float, float],
) -> None:
    made = bench.keep(make(bench, original, steps))
    assert len(parent_of(bench, made).lineage) == len(steps)
    build = bench.keep_converted(convert_candidate(bench, made, "onnxruntime-cpu"))
    parity = _parity(bench, made, build, open_build(bench, build), eager(bench, original), 0.95)
    assert [one.name for one in parity.further] == NAMES[1:]
    assert parity.edges_ok, [edge for edge in parity.edges if not edge.ok]
    assert all(own[0] <= one.mean <= own[1] for one in parity.further), parity.further
    assert all(originals[0] <= (one.from_original or 0) <= originals[1] for one in parity.further), parity.further
