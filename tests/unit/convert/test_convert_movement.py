"""Slice-and-pad shortcuts become convolutions; nothing else does, and the answers stay bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trimtab.convert.graph import deployed
from trimtab.convert.movement import without_shortcut_copies
from trimtab.convert.onnx_format import export_onnx
from trimtab.convert.openvino_format import write_openvino
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.openvino_cpu import read_model

Short = Callable[[Tensor], Tensor]
PADDED: dict[str, Short] = {
    "as published": lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)),
    "padded behind": lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 8)),
    "padded before": lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 0), value=0.0),
    "one axis after the other": lambda x: F.pad(x[:, :, ::2][..., ::2], (0, 0, 0, 0, 4, 4)),
    "negative axes": lambda x: F.pad(x[..., 0::2, 0:8:2], (0, 0, 0, 0, 4, 4), mode="constant"),
    "every second row of every fourth column": lambda x: F.pad(x[:, :, ::2, ::4], (0, 0, 0, 0, 4, 4)),
}
# The last slices are part of the convolution, those before them stay.
PARTLY: dict[str, Short] = {
    "not to the end": lambda x: F.pad(x[:, :, :6:2, ::2], (0, 0, 0, 0, 4, 4)),
    "half of the channels": lambda x: F.pad(x[:, ::2, ::2, ::2], (0, 0, 0, 0, 6, 6)),
}
LEFT: dict[str, Short] = {
    "from the second pixel": lambda x: F.pad(x[:, :, 1::2, 1::2], (0, 0, 0, 0, 4, 4)),
    "padded with ones": lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4), value=1.0),
    "pixels padded too": lambda x: F.pad(x[:, :, ::2, ::2], (1, 1, 1, 1, 4, 4)),
    "only padded": lambda x: F.pad(x, (0, 0, 0, 0, 4, 4)),
    "cropped": lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, -2, 10)),
}


class Shortcut(nn.Module):
    """One residual block of 8 → 16 channels on 8x8 images, with a given shortcut, then a linear head."""

    def __init__(self, short: Short) -> None:
        super().__init__()
        self.short = short
        self.conv = nn.LazyConv2d(16, 3, padding=1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        short = self.short(x)
        return self.head(F.relu(short + self.conv(F.adaptive_avg_pool2d(x, tuple(short.shape[2:])))).mean((2, 3)))


def built(short: Short) -> nn.Module:
    torch.manual_seed(0)
    model = deployed(Shortcut(short), Preprocess())
    with torch.no_grad():
        model(torch.zeros(2, 8, 8, 8))
    return model


def example(rows: int = 4) -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(0).normal(size=(rows, 8, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize("kind", [*PADDED, *PARTLY])
def test_a_slice_padded_with_zero_channels_is_a_convolution_that_answers_the_same(kind: str) -> None:
    model = built({**PADDED, **PARTLY}[kind])
    rewritten, notes = without_shortcut_copies(model, example())
    assert notes == ["1 shortcuts that slice and pad are 1x1 convolutions"]
    for rows in (1, 3, 17):
        x = torch.from_numpy(example(rows)["input"])
        with torch.inference_mode():
            assert torch.equal(rewritten(x), model(x))


@pytest.mark.parametrize("kind", LEFT)
def test_what_is_not_that_stays_the_module_it_was(kind: str) -> None:
    model = built(LEFT[kind])
    rewritten, notes = without_shortcut_copies(model, example())
    assert rewritten is model
    assert notes == []


def test_a_slice_that_is_read_elsewhere_stays_for_that_reader() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            few = x[:, :, ::2, ::2]
            return F.pad(few, (0, 0, 0, 0, 4, 4)).mean((2, 3)) * few.amax((1, 2, 3)).unsqueeze(1)

    model = deployed(Twice(), Preprocess())
    rewritten, _ = without_shortcut_copies(model, example())
    x = torch.from_numpy(example()["input"])
    assert torch.equal(rewritten(x), model(x))


def test_named_inputs_keep_their_names() -> None:
    class Named(nn.Module):
        def forward(self, scale: Tensor, image: Tensor) -> Tensor:
            return F.pad(image[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)).mean((2, 3)) * scale

    model = deployed(Named(), Preprocess())
    inputs = {"scale": np.full((4, 1), 2, np.float32), "image": example()["input"]}
    rewritten, notes = without_shortcut_copies(model, inputs)
    assert notes
    tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
    assert torch.equal(rewritten(**tensors), model(**tensors))


def test_both_runtimes_get_the_convolution(tmp_path: Path) -> None:
    model = built(PADDED["as published"])
    notes = export_onnx(model, example(), tmp_path / "model.onnx")
    assert "1 shortcuts that slice and pad are 1x1 convolutions" in notes
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert kinds.count("Conv") == 2
    assert not {"Pad", "Slice"} & set(kinds)
    (tmp_path / "openvino").mkdir()
    assert "1 shortcuts that slice and pad are 1x1 convolutions" in write_openvino(
        model, example(), tmp_path / "openvino"
    )
    kinds = [node.get_type_name() for node in read_model(tmp_path / "openvino").get_ops()]
    assert not {"Pad", "Slice", "StridedSlice"} & set(kinds)
