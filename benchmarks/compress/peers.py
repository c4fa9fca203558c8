"""What the published tools make of the same weights, written to a folder: every process measures the same files.

    python -m benchmarks.compress.peers WEIGHTS FOLDER

ONNX Runtime FP32 and static INT8 (QDQ, per channel: what Olive and Optimum produce), OpenVINO FP32 executed in
bfloat16 where the CPU has it, NNCF post-training INT8, Torch-Pruning to half the multiply-accumulates with three
epochs of distillation, and that with NNCF INT8.
"""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import nn
from torch.nn import functional as F

import trimtab.runtime.onnxruntime_cpu
import trimtab.runtime.openvino_cpu  # noqa: F401  both: no usage event of the runtimes
from benchmarks.compress.cifar import ResNet, augment, images

FILES = {  # name → file that its runtime opens
    "onnxruntime fp32": "original.onnx",
    "onnxruntime int8": "original-int8.onnx",
    "openvino fp32/bf16": "original.onnx",
    "openvino nncf int8": "original-nncf.xml",
    "torch-pruning + distillation, onnxruntime fp32": "pruned.onnx",
    "torch-pruning + distillation, openvino nncf int8": "pruned-nncf.xml",
}
PUBLISHED = (  # those whose fastest within the same drop the ratio is taken over
    "onnxruntime int8",
    "openvino nncf int8",
    "torch-pruning + distillation, onnxruntime fp32",
    "torch-pruning + distillation, openvino nncf int8",
)
TEMPERATURE, EPOCHS, RATE, BATCH = 4.0, 3, 0.01, 128
Answer = Callable[[np.ndarray], np.ndarray]


def load(weights: Path) -> nn.Module:
    """The original."""
    model = ResNet()
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["state_dict"])
    return model.eval()


def export(model: nn.Module, path: Path) -> None:
    """FP32 ONNX with a dynamic batch axis."""
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    example = (torch.randn(2, 3, 32, 32),)
    options: dict[str, Any] = {"dynamo": False, "opset_version": 17, "input_names": ["x"], "output_names": ["y"]}
    torch.onnx.export(model.eval(), example, str(path), dynamic_axes=axes, **options)


def onnxruntime_int8(graph: Path, rows: np.ndarray, out: Path) -> None:
    """Static INT8 as its documentation has it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Rows(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"x": rows[i : i + 32]} for i in range(0, len(rows), 32)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    ready = out.with_suffix(".pre.onnx")
    quant_pre_process(str(graph), str(ready))
    quantize_static(
        str(ready),
        str(out),
        Rows(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def nncf_int8(graph: Path, rows: np.ndarray, out: Path) -> None:
    """Post-training INT8 with NNCF's defaults."""
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(str(graph))
    quantized = nncf.quantize(model, nncf.Dataset([rows[i : i + 1] for i in range(300)]))
    openvino.save_model(quantized, str(out), compress_to_fp16=False)


def pruned(model: nn.Module, rows: np.ndarray, labels: np.ndarray) -> nn.Module:
    """Torch-Pruning to half the multiply-accumulates, then distillation from the original.

    The layers coupled by the zero-padded shortcuts are ignored: it raises IndexError on them (1.6.1).
    """
    student, example = copy.deepcopy(model), torch.randn(2, 3, 32, 32)
    ignored = [m for n, m in student.named_modules() if n == "linear" or n == "conv1" or n.endswith("conv2")]
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    before, _ = tp.utils.count_ops_and_params(model, example)
    pruner = tp.pruner.MetaPruner(
        student, example, importance, pruning_ratio=0.99, iterative_steps=99, ignored_layers=ignored, round_to=4
    )
    while tp.utils.count_ops_and_params(student, example)[0] > before / 2:
        smaller = tp.utils.count_ops_and_params(student, example)[0]
        pruner.step()
        if pruner.current_step >= 99 and tp.utils.count_ops_and_params(student, example)[0] == smaller:
            break
    return distilled(student, model, torch.from_numpy(rows), torch.from_numpy(labels))


def distilled(student: nn.Module, teacher: nn.Module, rows: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """Three epochs of distillation (Hinton et al. 2015) with SGD and a one-cycle schedule."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(student.parameters(), RATE, momentum=0.9, weight_decay=1e-4)
    steps = EPOCHS * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        student.train()
        for chosen in torch.randperm(len(rows), generator=generator).split(BATCH):
            x = augment({"input": rows[chosen]}, generator)["input"]
            with torch.no_grad():
                soft = F.softmax(teacher(x) / TEMPERATURE, 1)
            answer = student(x)
            likeness = F.kl_div(F.log_softmax(answer / TEMPERATURE, 1), soft, reduction="batchmean") * TEMPERATURE**2
            loss = 0.9 * likeness + 0.1 * F.cross_entropy(answer, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return student.eval()


def make(weights: Path, folder: Path) -> None:
    """All files of FILES."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    model = load(weights)
    rows, labels = images("train")
    export(model, folder / "original.onnx")
    onnxruntime_int8(folder / "original.onnx", rows[:512], folder / "original-int8.onnx")
    nncf_int8(folder / "original.onnx", rows[:300], folder / "original-nncf.xml")
    export(pruned(model, rows, labels), folder / "pruned.onnx")
    nncf_int8(folder / "pruned.onnx", rows[:300], folder / "pruned-nncf.xml")


def open_all(weights: Path, folder: Path, threads: int) -> dict[str, Answer]:
    """Eager PyTorch and every peer, ready to answer (n, 3, 32, 32) float32 with logits (n, 10)."""
    import openvino

    from trimtab.runtime.onnxruntime_cpu import open_session

    model, core = load(weights), openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}

    def eager(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

    def on_openvino(file: str) -> Answer:
        compiled = core.compile_model(core.read_model(str(folder / file)), "CPU", settings)
        return lambda x: compiled(x)[0]

    def on_onnxruntime(file: str) -> Answer:
        session = open_session(folder / file, threads)
        return lambda x: session.run(None, {"x": x})[0]

    opened = {name: (on_openvino if "openvino" in name else on_onnxruntime)(file) for name, file in FILES.items()}
    return {"eager": eager, **opened}


def size(folder: Path, name: str) -> int:
    """Bytes of every file its runtime loads."""
    file = folder / FILES[name]
    return file.stat().st_size + (file.with_suffix(".bin").stat().st_size if file.suffix == ".xml" else 0)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
