"""program.pt2 + example.npz → model.tflite: the program at each batch size of job.json, one signature a size."""

import json
import sys
import traceback
from pathlib import Path
from typing import Any


def main(folder: Path) -> dict[str, Any]:
    """Convert what is in the folder."""
    import litert_torch
    import numpy as np
    import torch

    sizes = json.loads((folder / "job.json").read_text(encoding="utf-8"))["sizes"]
    module = torch.export.load(str(folder / "program.pt2")).module()
    with np.load(folder / "example.npz", allow_pickle=False) as held:
        example = [torch.from_numpy(held[f"args_{place}"]) for place in range(len(held.files))]
    converter: Any = litert_torch
    for size in sizes:
        rows = torch.arange(size) % len(example[0])
        converter = converter.signature(f"batch_{size}", module, tuple(values[rows] for values in example))
    converter.convert().export(str(folder / "model.tflite"))
    return {"ok": True}


if __name__ == "__main__":
    try:
        status = main(Path(sys.argv[1]))
    except Exception as error:
        traceback.print_exc()
        status = {"ok": False, "error": f"{type(error).__name__}: {str(error)[:1500]}"}
    print("\n" + json.dumps(status), flush=True)
