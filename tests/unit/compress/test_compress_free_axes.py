"""Compressed graphs with a free axis: calibrated at the size of the data, they decide like the original at others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimtab import runtime
from trimtab.compress.cluster import cluster
from trimtab.compress.half import half
from trimtab.compress.quantize import quantize
from trimtab.compress.quantize_openvino import quantize_openvino
from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.convert.onnx_format import export_onnx
from trimtab.errors import CalibrationError
from trimtab.free_axes import Axes, FreeAxis, resized
from trimtab.recipe.schema import Preprocess, Quantize, QuantizeOpenvino
from trimtab.runtime.eager import Predictor as Eager
from trimtab.verify.parity import compare

Inputs = dict[str, np.ndarray]
SIZE, SHORT, LONG = 12, 5, 40
LENGTH = FreeAxis("length", SHORT, LONG)
ROWS, BUDGET = 256, 0.05  # the budget: how many of these rows may be decided otherwise


class Tokens(nn.Module):
    """Which third of the vocabulary most tokens are of, among those that are there: one layer of attention.

    Args:
        masked: attention does not look at tokens that are not there: minus infinity is added to their scores.
    """

    axes: ClassVar[Axes] = {"tokens": {1: LENGTH}, "mask": {1: LENGTH}}

    def __init__(self, masked: bool = False) -> None:
        super().__init__()
        self.masked = masked
        self.embedding = nn.Embedding(30, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 64, batch_first=True, dropout=0.0)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.block(self.embedding(tokens), src_key_padding_mask=~mask if self.masked else None)
        there = mask.unsqueeze(-1).float()
        return self.head((x * there).sum(1) / there.sum(1).clamp(min=1))

    @staticmethod
    def data(rows: int, seed: int) -> tuple[Inputs, np.ndarray]:
        random = np.random.default_rng(seed)
        labels = random.integers(0, 3, rows)
        own = random.random((rows, SIZE)) < 0.6
        tokens = 3 * random.integers(0, 10, (rows, SIZE)) + np.where(
            own, labels[:, None], random.integers(0, 3, (rows, SIZE))
        )
        mask = random.random((rows, SIZE)) < 0.8
        mask[:, 0] = True
        return {"tokens": tokens, "mask": mask}, labels


class Steps(nn.Module):
    """Which of three columns is the highest on average: the last state of a GRU."""

    axes: ClassVar[Axes] = {"input": {1: LENGTH}}

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.cell = nn.Linear(4, 24), nn.GRU(24, 24, batch_first=True)
        self.hidden, self.head = nn.Linear(24, 24), nn.Linear(24, 3)

    def forward(self, input: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.cell(torch.relu(self.widen(input)))[0][:, -1])))

    @staticmethod
    def data(rows: int, seed: int) -> tuple[Inputs, np.ndarray]:
        random = np.random.default_rng(seed)
        labels = random.integers(0, 3, rows)
        values = random.normal(size=(rows, SIZE, 4)).astype(np.float32)
        values[np.arange(rows), :, labels] += 1.5
        return {"input": values}, labels


@dataclass
class World:
    """A trained model of sequences: its module, its FP32 builds, and rows to be asked."""

    module: nn.Module
    spec: dict[str, object]
    train: Inputs
    rows: Inputs
    axes: Axes
    folder: Path


@pytest.fixture(scope="module", params=[Tokens, partial(Tokens, masked=True), Steps], ids=["plain", "masked", "gru"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    torch.manual_seed(0)
    model: nn.Module = request.param()
    train, labels = model.data(512, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    tensors, target = [torch.from_numpy(values) for values in train.values()], torch.from_numpy(labels)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(*tensors), target).backward()
        optimizer.step()
    rows, truth = model.data(ROWS, 2)
    module = deployed(model.eval(), Preprocess())
    spec = spec_of(train, 3, axes=model.axes)
    answers = Eager(module, spec, threads=1).predict(rows)["probabilities"]
    assert float((answers.argmax(1) == truth).mean()) > 0.9
    folder = tmp_path_factory.mktemp("free")
    example = {name: values[:8] for name, values in train.items()}
    export_onnx(module, example, folder / "model.onnx", axes=model.axes)
    return World(module, spec, train, rows, model.axes, folder)


def rewritten(world: World, method: str, folder: Path) -> tuple[Path, str]:
    """The compressed graph, and the precision it has."""
    source, train = world.folder / "model.onnx", world.train
    if method == "int8-nncf":
        example = {name: values[:8] for name, values in train.items()}
        (plain := folder / "fp32").mkdir()
        convert("c0", "openvino-cpu", world.module, example, world.spec, plain)
        settings = QuantizeOpenvino(calibration_rows=200, minimum_rows=100)
        quantize_openvino(plain, train, train, settings, folder / "model.xml")
        return folder / "model.xml", method
    out = folder / "other.onnx"
    if method == "fp16":
        half(source, out)
    elif method == "clustered":
        cluster(source, 5, out)
    else:
        mode = "dynamic" if method == "int8-dynamic" else "static"
        facts = quantize(source, train, train, Quantize(calibration_rows=200, minimum_rows=100, mode=mode), out)
        assert facts["weights_quantized"] > 0.1
    return out, method


@pytest.mark.parametrize(
    ("target", "method"),
    [
        ("onnxruntime-cpu", "int8"),
        ("onnxruntime-cpu", "int8-dynamic"),
        ("openvino-cpu", "int8"),
        ("openvino-cpu", "int8-nncf"),
        *[(target, method) for target in ("onnxruntime-cpu", "openvino-cpu") for method in ("fp16", "clustered")],
    ],
)
def test_a_compressed_graph_decides_like_the_original_at_other_lengths(
    target: str, method: str, world: World, tmp_path: Path
) -> None:
    if method == "int8" and getattr(world.module.model, "masked", False):
        with pytest.raises(
            CalibrationError, match=r"tensor masked_fill: .* -inf … 0\.0\n.*if that is an attention mask"
        ):
            rewritten(world, method, tmp_path)
        return
    graph, precision = rewritten(world, method, tmp_path)
    (out := tmp_path / "out").mkdir()
    example = {name: values[:8] for name, values in world.train.items()}
    convert("c0", target, graph, example, world.spec, out, precision)

    eager, own = Eager(world.module, world.spec, threads=1), runtime.load(target, out, threads=1)
    shares = {}
    for size in (SHORT, 7, SIZE, 23, LONG):
        asked = resized(world.rows, world.axes, "length", size)
        want, have = (one.predict(asked)["probabilities"] for one in (eager, own))
        shares[size] = float((want.argmax(1) != have.argmax(1)).mean())
        assert np.abs(want - have).max() > 0, f"{method} changed nothing at {size}"
    assert max(shares.values()) <= BUDGET, shares

    parity = compare(eager, own, world.rows, None, 0.95, batch_invariant=method != "int8-dynamic")
    assert [edge.name for edge in parity.edges if edge.name.startswith("axis")] == [
        f"axis 'length' at {SHORT} (shortest)",
        "axis 'length' at 21 (odd)",
        f"axis 'length' at {LONG} (longest)",
    ]
    assert parity.edges_ok, [edge for edge in parity.edges if not edge.ok]
