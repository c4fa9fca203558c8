"""program.pt2 + example.npz → model.tflite: the program at each batch size of job.json, one signature a size.

With "quantize" in job.json it is quantized before, on all rows of example.npz; see `quantized`.
"""

import json
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the interpreter is isolated: it does not look beside the script


def main(folder: Path) -> dict[str, Any]:
    """Convert what is in the folder."""
    import litert_torch
    import numpy as np
    import torch

    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    module: Any = torch.export.load(str(folder / "program.pt2")).module()
    with np.load(folder / "example.npz", allow_pickle=False) as held:
        example = [torch.from_numpy(held[f"args_{place}"]) for place in range(len(held.files))]
    status: dict[str, Any] = {"ok": True}
    converter: Any = litert_torch
    mode: dict[str, Any] = {}
    if "quantize" in job:
        import pt2e

        try:
            module, mode["quant_config"] = quantized(module, example, job["quantize"])
        except pt2e.UnfiniteError as error:
            return {"ok": True, "unfinite": str(error)}
        status["done"], status["left"] = pt2e.layers(module)
        if not status["done"]:
            return status
    for size in job["sizes"]:
        rows = torch.arange(size) % len(example[0])
        converter = converter.signature(f"batch_{size}", module, tuple(values[rows] for values in example))
    converter.convert(**mode).export(str(folder / "model.tflite"))
    return status


def quantized(module: Any, rows: list[Any], asked: dict[str, Any]) -> tuple[Any, Any]:
    """The module by PT2E with litert-torch's quantizer, and what the conversion must be told of it.

    Args:
        rows: each input (n, ...). asked: {"calibration", "per_channel", "outside": operations that stay in float}.
    """
    import pt2e
    from litert_torch.quantize import pt2e_quantizer as own
    from litert_torch.quantize.quant_config import QuantConfig

    config = pt2e.observed_by(
        own.get_symmetric_quantization_config(is_per_channel=asked["per_channel"]), asked["calibration"]
    )

    class OfTheModule(own.PT2EQuantizer):
        # Its own way to choose goes by names of modules, which a saved program has not.
        def _annotate_for_static_quantization_config(self, model: Any) -> Any:
            return self._annotate_all_static_patterns(model, config, lambda node: node.name not in asked["outside"])

    name_sources(module)
    quantizer = OfTheModule().set_global(config)  # read off by QuantConfig: static
    graph = pt2e.quantized(module, quantizer, rows, folded=False)  # litert-torch rounds the weights itself
    return graph, QuantConfig(pt2e_quantizer=quantizer)


def name_sources(module: Any) -> None:
    """Say of each operation on floats which function it came from: the quantizer finds those it knows by that alone.

    torch.export writes it in strict mode only. Integers (positions, say) have no range and stay unnamed, and so does
    torch.cat: litert-torch 0.10 gives what it joins ranges of their own, and its converter then refuses them.
    """
    import torch
    from torch.nn import functional

    aten = torch.ops.aten
    sources = {
        aten.add.Tensor: torch.add,
        aten.mul.Tensor: torch.mul,
        aten.relu.default: functional.relu,
        aten.max_pool2d.default: functional.max_pool2d,
        aten.adaptive_avg_pool2d.default: functional.adaptive_avg_pool2d,
    }
    for node in module.graph.nodes:
        pair = node.target in (aten.add.Tensor, aten.mul.Tensor)
        if node.target in sources and all(_is_float(one) for one in (node, *(node.args[:2] if pair else ()))):
            node.meta["source_fn_stack"] = [(node.name, sources[node.target])]


def _is_float(node: Any) -> bool:
    value = getattr(node, "meta", {}).get("val")
    return value is not None and value.dtype.is_floating_point


if __name__ == "__main__":
    try:
        status = main(Path(sys.argv[1]))
    except Exception as error:
        traceback.print_exc()
        status = {"ok": False, "error": f"{type(error).__name__}: {str(error)[:1500]}"}
    print("\n" + json.dumps(status), flush=True)
