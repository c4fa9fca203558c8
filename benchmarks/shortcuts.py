"""What it gives to write slice-and-pad shortcuts as convolutions: a ResNet-20's latency without it over with it.

    make bench-shortcuts          (or: python -m benchmarks.shortcuts [--rounds 25])

Random weights (latency does not depend on them), with all nine blocks and with five, FP32 and INT8 on both runtimes,
two threads, rounds interleaved in random order. The last line is one JSON object: ratios above 1 are gains.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.compress.cifar import ResNet
from benchmarks.machine import commit, cpu
from trimtab import runtime
from trimtab.compress.quantize import quantize
from trimtab.compress.quantize_openvino import quantize_openvino
from trimtab.convert import convert, onnx_format, openvino_format
from trimtab.convert.graph import deployed, spec_of
from trimtab.recipe.schema import Measure, Preprocess, Quantize, QuantizeOpenvino
from trimtab.verify.latency import measure

THREADS, ROWS = 2, 300
ONNX, OPENVINO = "onnxruntime-cpu", "openvino-cpu"
WAYS = ("copies", "convolutions")


def resnet(blocks: tuple[int, int, int]) -> torch.nn.Module:
    """With so many blocks a stage."""
    torch.manual_seed(0)
    model = ResNet()
    for stage, kept in zip((model.layer1, model.layer2, model.layer3), blocks, strict=True):
        del stage[kept:]
    return model.eval()


@contextmanager
def shortcuts(way: str) -> Iterator[None]:
    """Inside, the exporters leave shortcuts as they are, or do not."""
    modules = (onnx_format, openvino_format)
    before = [module.without_shortcut_copies for module in modules]
    try:
        if way == "copies":
            for module in modules:
                module.without_shortcut_copies = lambda one, _: (one, [])
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            module.without_shortcut_copies = own


def built(blocks: tuple[int, int, int], rows: dict[str, Any], folder: Path) -> dict[str, runtime.Predictor]:
    """FP32 and INT8 on both runtimes."""
    module = deployed(resnet(blocks), Preprocess())
    example = {name: values[:4] for name, values in rows.items()}
    spec = spec_of(example, 10)
    found: dict[str, runtime.Predictor] = {}
    for target in (ONNX, OPENVINO):
        float_folder, int8_folder = folder / f"{target}-fp32", folder / f"{target}-int8"
        for one in (float_folder, int8_folder):
            one.mkdir(parents=True)
        convert("bench", target, module, example, spec, float_folder)
        if target == ONNX:
            source = folder / "int8.onnx"
            quantize(float_folder / "model.onnx", rows, rows, Quantize(calibration_rows=ROWS), source)
            convert("bench", target, source, example, spec, int8_folder)
        else:
            source = folder / "int8.xml"
            quantize_openvino(float_folder, rows, rows, QuantizeOpenvino(calibration_rows=ROWS), source)
            convert("bench", target, source, example, spec, int8_folder, "int8-nncf")
        found |= {f"{one.name}": runtime.load(target, one, THREADS) for one in (float_folder, int8_folder)}
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench-shortcuts")
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(THREADS)
    rows = {"input": np.random.default_rng(0).normal(size=(ROWS, 3, 32, 32)).astype(np.float32)}
    settings = Measure(batch_sizes=[1, 32], threads=THREADS, rounds=rounds, calls=10)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for blocks in ((3, 3, 3), (1, 1, 3)):
            ways = {}
            for way in WAYS:
                with shortcuts(way):
                    ways[way] = built(blocks, rows, Path(scratch) / f"{blocks}-{way}")
            for name, copies in ways["copies"].items():
                timings = measure(copies, {"convolutions": ways["convolutions"][name]}, rows, settings)
                result[f"{'-'.join(map(str, blocks))} {name}"] = {
                    f"b{batch}": {
                        "ratio": round(latency.speedup, 3),
                        "spread": [round(latency.speedup_low, 3), round(latency.speedup_high, 3)],
                        "noise_floor": round(timings.itself[batch], 3),
                    }
                    for batch, latency in timings.by_name["convolutions"].items()
                }
    print(json.dumps({"commit": commit(), "cpu": cpu(), "n": rounds, "ratios": result}))


if __name__ == "__main__":
    main()
