"""The model everybody serves: a ResNet-20 for 32x32 images with random weights, in INT8 on ONNX Runtime.

    python -m benchmarks.serve.model FOLDER

Speed does not depend on the weights. In FOLDER: `release` (for our service), `mlflow` (for stock MLflow), `model.onnx`
(for the others; the same bytes in all three) and the bodies of the requests with the answers they must get.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
import torch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from benchmarks.compress.cifar import ResNet
from benchmarks.serve.task import BATCHES, BODIES, CLASSES, INPUT, OUTPUT, SHAPE, answer_file, bodies
from trimtab import runtime
from trimtab.compress.quantize import quantize
from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.recipe.schema import Preprocess, Quantize
from trimtab.registry.package import Facts, Golden, pack

TARGET = "onnxruntime-cpu"
ROWS, CALIBRATION, GOLDEN = 512, 256, 8
SERVING = {"threads": 1, "workers": 1, "journal_inputs": True}  # one inference thread, as everybody has


def make(folder: Path) -> None:
    """Everything in the folder."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = {INPUT: np.random.default_rng(0).normal(size=(ROWS, *SHAPE)).astype(np.float32)}
    example = {INPUT: rows[INPUT][:GOLDEN]}
    spec = spec_of(example, CLASSES)
    floats, int8 = folder / "fp32", folder / "int8"
    for one in (floats, int8):
        one.mkdir(parents=True)
    convert("bench", TARGET, deployed(ResNet().eval(), Preprocess()), example, spec, floats)
    quantize(floats / "model.onnx", rows, rows, Quantize(calibration_rows=CALIBRATION), folder / "quantized.onnx")
    convert("bench", TARGET, folder / "quantized.onnx", example, spec, int8)
    predictor = runtime.load(TARGET, int8, 1)
    facts = Facts("bench", "bench", "bench", TARGET, "int8", 1, CLASSES, None, {}, {}, {"serving": SERVING})
    pack(int8, folder / "release", facts, Golden(example, predictor.predict(example)))
    shutil.copy(int8 / "model.onnx", folder / "model.onnx")
    for_mlflow(folder)
    write_bodies(folder, predictor)


def for_mlflow(folder: Path) -> None:
    """The model as MLflow's own onnx flavour has it, with one thread."""
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.float32), (-1, *SHAPE), INPUT)]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, CLASSES), OUTPUT)]),
    )
    mlflow.onnx.save_model(
        onnx.load(folder / "model.onnx"),
        str(folder / "mlflow"),
        signature=signature,
        pip_requirements=["onnxruntime"],
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1, "execution_mode": "sequential"},
    )


def write_bodies(folder: Path, predictor: runtime.Predictor) -> None:
    """Of each batch size some bodies, as JSON and as raw float32, and what the runtime answers to each."""
    (folder / "bodies").mkdir()
    for batch in BATCHES:
        for number in range(BODIES):
            rows = np.random.default_rng([batch, number]).normal(size=(batch, *SHAPE)).astype(np.float32)
            bodies(folder, f"json_b{batch}")[number].write_bytes(json.dumps({"instances": rows.tolist()}).encode())
            bodies(folder, f"binary_b{batch}")[number].write_bytes(rows.tobytes())
            np.save(answer_file(folder, batch, number), predictor.predict({INPUT: rows})[OUTPUT])


if __name__ == "__main__":
    make(Path(sys.argv[1]))
