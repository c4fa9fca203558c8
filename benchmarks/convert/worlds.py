"""Small models, converted once, for mutations to be made on: every one has something that a wrong conversion can break.

A world is a module, a few rows, and a target; `make` writes its folder, `objection` asks every check a build passes on
its way to registration.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trimtab import runtime
from trimtab.convert import check, convert
from trimtab.convert.first_difference import first_difference
from trimtab.convert.graph import deployed, measured_spec
from trimtab.errors import TrimtabError
from trimtab.outputs import ONE, Outputs
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.eager import Predictor as Eager
from trimtab.verify.parity import compare

ROWS, ATOL, CONFIDENCE, MAX_DISAGREEMENT = 400, 1e-4, 0.95, 0.05
SEVERAL = Outputs("logits", {"near": "hidden.0", "far": "hidden.1"})
Array = np.ndarray


class Image(nn.Module):
    """Convolution, norm after the activation (so that it cannot be folded), a square linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)
        self.hidden, self.head = nn.Linear(32, 32), nn.Linear(32, 3)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-0.5, 0.5)  # type: ignore[operator,union-attr]
            self.norm.running_var.uniform_(0.5, 2)  # type: ignore[operator,union-attr]
            self.head.weight.mul_(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.relu(self.conv(x)))
        x = nn.functional.max_pool2d(x, 2).flatten(1)
        return self.head(torch.relu(self.hidden(x)))


class Pair(nn.Module):
    """Two inputs of one shape, read differently."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.first(left) + torch.tanh(self.second(right))


class Tokens(nn.Module):
    """Indices that need more than eight bits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(1000, 8), nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens).mean(1))


class Several(nn.Module):
    """Two features of one size beside the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        near = torch.relu(self.near(x))
        far = torch.tanh(self.far(near))
        return {"logits": self.head(far), "hidden": (near, far)}


class Branch(nn.Module):
    """Decides by the number of rows: an export would keep one of the two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if x.shape[0] > 3 else -self.linear(x)


@dataclass(frozen=True)
class World:
    """Attributes: as `convert` takes them; `rows` are the data that parity is measured on."""

    name: str
    target: str
    module: nn.Module
    rows: Mapping[str, Array]
    quantized: bool = False

    @property
    def example(self) -> dict[str, Array]:
        """The first rows."""
        return {name: values[:4] for name, values in self.rows.items()}

    @property
    def spec(self) -> dict[str, object]:
        """As in spec.json."""
        return measured_spec(self.module, self.example)


def worlds() -> dict[str, World]:
    """All worlds by name; the same at each call."""
    rng = np.random.default_rng(0)
    images = {"input": rng.uniform(0, 16, (ROWS, 1, 6, 6)).astype(np.float32)}
    pairs = {name: rng.standard_normal((ROWS, 4)).astype(np.float32) for name in ("left", "right")}
    tokens = {"tokens": rng.integers(0, 1000, (ROWS, 7))}
    flat = {"input": rng.standard_normal((ROWS, 4)).astype(np.float32)}
    image = _seeded(Image, Preprocess(scale=1 / 16, mean=[0.5], std=[0.25]))
    onnx, openvino, script = "onnxruntime-cpu", "openvino-cpu", "torchscript-cpu"
    made = [
        World("image", onnx, image, images),
        World("image-openvino", openvino, image, images),
        World("image-torchscript", script, image, images),
        World("image-int8", onnx, image, images, quantized=True),
        World("pair", onnx, _seeded(Pair), pairs),
        World("tokens", onnx, _seeded(Tokens), tokens),
        World("several", onnx, _seeded(Several, outputs=SEVERAL), flat),
        World("branch", script, _seeded(Branch), flat),
    ]
    return {world.name: world for world in made}


def _seeded(model: Callable[[], nn.Module], preprocess: Preprocess | None = None, outputs: Outputs = ONE) -> nn.Module:
    torch.manual_seed(1)
    return deployed(model(), preprocess or Preprocess(), outputs=outputs)


def make(world: World, folder: Path) -> None:
    """Write the right conversion into an empty folder; of "branch" there is none, and the folder stays as it is."""
    if world.name == "branch":
        return
    if not world.quantized:
        convert(world.name, world.target, world.module, world.example, world.spec, folder)
        return
    with tempfile.TemporaryDirectory() as draft:
        graph = Path(draft) / "int8.onnx"
        graph.write_bytes(_int8_graph())
        convert(world.name, world.target, graph, world.example, world.spec, folder, "int8")


@cache
def _int8_graph() -> bytes:
    from trimtab.compress.quantize import quantize
    from trimtab.convert.onnx_format import export_onnx
    from trimtab.recipe.schema import Quantize

    world = worlds()["image-int8"]
    with tempfile.TemporaryDirectory() as draft:
        plain, out = Path(draft) / "fp32.onnx", Path(draft) / "int8.onnx"
        export_onnx(world.module, world.example, plain)
        quantize(plain, dict(world.rows), dict(world.rows), Quantize(calibration_rows=200), out)
        return out.read_bytes()


def objection(world: World, folder: Path) -> str | None:
    """What the checks of `convert` and `verify` say against a folder, the first of them; None if nothing."""
    try:
        if world.quantized:
            check(world.target, folder / "model.onnx", world.example, world.spec, folder, "int8")
        else:
            check(world.target, world.module, world.example, world.spec, folder)
        reference = Eager(world.module, world.spec, threads=1)
        candidate = runtime.load(world.target, folder, threads=1)
        parity = compare(
            reference,
            candidate,
            world.rows,
            None if world.quantized else ATOL,
            CONFIDENCE,
            explain=lambda asked, output: first_difference(
                world.module, world.target, folder, asked, quantized=world.quantized, output=output
            ),
            max_disagreement=MAX_DISAGREEMENT,
        )
    except TrimtabError as error:
        return str(error)
    wrong = [f"{edge.name}: {edge.detail}" for edge in parity.edges if edge.decides and not edge.ok]
    if world.quantized and parity.disagreement.value > MAX_DISAGREEMENT:
        wrong.append(f"{parity.disagreement.value:.1%} of decisions differ")
    wrong += [f"output {one.name} differs" for one in parity.further if not world.quantized and one.largest > ATOL]
    if not world.quantized and parity.max_abs > ATOL:
        wrong.append(f"probabilities differ by up to {parity.max_abs:.3g}")
    return f"{'; '.join(wrong)}; {parity.where}" if wrong else None
