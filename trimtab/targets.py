"""The targets, one entry each: what a candidate can be converted to, and what runs it there.

A new target is its entry here, `trimtab/convert/<converter>.py` and `trimtab/runtime/<runtime>.py`; everything else
(the recipe, `trimtab targets`, the loader in a release) reads this table. Plain data: nothing heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trimtab.errors import UnsupportedError

NNCF, XNNPACK, LITERT = "int8-nncf", "int8-xnnpack", "int8-litert"
# Of a candidate's weights: "fp32"; "int8" (QDQ), "int8-dynamic" (ranges of each batch), "int8-nncf" (an OpenVINO model
# that NNCF quantized), "int8-xnnpack" (an ExecuTorch program, by XNNPACK's quantizer) and "int8-litert" (a .tflite
# file, by litert-torch's), computed in integers; "clustered" and "fp16", which are smaller files of other weights, and
# "sparse", one of the same, computed in FP32.
STORED = ("clustered", "fp16", "sparse")  # weights in another form, arithmetic in FP32
OF_ONE_RUNTIME = (NNCF, XNNPACK, LITERT)  # what a quantizer writes for its own runtime, in a form that no other reads
PRECISIONS = ("fp32", "int8", "int8-dynamic", *OF_ONE_RUNTIME, *STORED)
_ONNX = tuple(precision for precision in PRECISIONS if precision not in OF_ONE_RUNTIME)
_OTHERS_OWN = "it cannot read what the quantizer of another runtime writes"
_NOT_ON_GPU = "nothing but FP32 is let onto ONNX Runtime's GPU providers before it has been measured there"
# The two distributions write the same folder: onnxruntime must go first.
_ON_GPU = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
System = Literal["Linux", "macOS", "Windows"]


@dataclass(frozen=True)
class Target:
    """A format on a runtime and a device.

    Attributes:
        format: for people, e.g. "ONNX".
        converter: module of `trimtab.convert` with `write(job)`, and `write_graph(job)` if it carries rewritten graphs.
        runtime: module of `trimtab.runtime` with the class `Predictor`; if it needs more than to be installed, also
            with `unavailable()`: why it cannot run on this machine, "" if it can.
        precisions: what it carries, of `PRECISIONS`; why_not: the reason why not the others.
        free_axes: whether it holds axes besides the batch that may change; why_fixed: the reason why not.
        ships_compressed: whether weights are compressed in what is shipped, so that fewer values are a smaller file.
        further_outputs: whether it holds outputs beside the one that decides; why_one: the reason why not.
        loads_with: distributions that its loader needs besides numpy and pandas.
        converts_with: distributions that only the conversion needs.
        convert_worker, load_worker: worker environment (`trimtab.worker`) in which that happens instead, which
            `trimtab targets --make` makes; "" for ours.
        install: the command that installs what is missing.
        parts: further files of `trimtab.runtime` that the runtime's file is built on; the loader has them before it.
        device: what computes. systems: operating systems for which the distributions are published.
    """

    format: str
    converter: str
    runtime: str
    loads_with: tuple[str, ...]
    precisions: tuple[str, ...] = ("fp32",)
    why_not: str = ""
    free_axes: bool = True
    why_fixed: str = ""
    ships_compressed: bool = False
    further_outputs: bool = True
    why_one: str = ""
    converts_with: tuple[str, ...] = ()
    convert_worker: str = ""
    load_worker: str = ""
    install: str = "pip install trimtab"
    parts: tuple[str, ...] = ()
    device: str = "CPU"
    systems: tuple[System, ...] = ("Linux", "macOS", "Windows")


TARGETS: dict[str, Target] = {
    "onnxruntime-cpu": Target(
        format="ONNX",
        converter="onnx_format",
        runtime="onnxruntime_cpu",
        parts=("onnxruntime_session",),
        loads_with=("onnxruntime",),
        precisions=_ONNX,
        why_not=_OTHERS_OWN,
        converts_with=("onnx", "onnxscript"),
    ),
    "onnxruntime-cuda": Target(
        format="ONNX",
        converter="onnx_format",
        runtime="onnxruntime_cuda",
        parts=("onnxruntime_session",),
        loads_with=("onnxruntime-gpu",),
        why_not=_NOT_ON_GPU,
        converts_with=("onnx", "onnxscript"),
        install=_ON_GPU,
        device="NVIDIA GPU",
        systems=("Linux", "Windows"),
    ),
    "onnxruntime-tensorrt": Target(
        format="ONNX",
        converter="onnx_format",
        runtime="onnxruntime_tensorrt",
        parts=("onnxruntime_session",),
        loads_with=("onnxruntime-gpu",),
        why_not=_NOT_ON_GPU,
        converts_with=("onnx", "onnxscript"),
        install=_ON_GPU + " tensorrt",
        device="NVIDIA GPU",
        systems=("Linux", "Windows"),
        free_axes=False,
        why_fixed="TensorRT builds an engine for a range of shapes, which has not been measured",
    ),
    "openvino-cpu": Target(
        format="OpenVINO IR",
        converter="openvino_format",
        runtime="openvino_cpu",
        loads_with=("openvino",),
        precisions=("fp32", "int8", NNCF, *STORED),
        ships_compressed=True,
        # Measured, 2026.4: every layer runs in f32, after its input was rounded to 8 bits; convert_model writes FP32.
        why_not=f"OpenVINO computes dynamically quantized layers in FP32; {_OTHERS_OWN}",
    ),
    "torchscript-cpu": Target(
        format="TorchScript",
        converter="torchscript_format",
        runtime="torchscript_cpu",
        loads_with=("torch",),
        why_not="a compressed graph is ONNX or OpenVINO and has no TorchScript form",
    ),
    "torch-export-cpu": Target(
        format="torch.export",
        converter="torch_export_format",
        runtime="torch_export_cpu",
        parts=("pt2_archive",),
        loads_with=("torch",),
        why_not="a compressed graph is ONNX or OpenVINO and has no torch.export form",
    ),
    "eager-cpu": Target(
        format="safetensors and code",
        converter="eager_format",
        runtime="eager_cpu",
        parts=("preprocessing", "picking"),
        loads_with=("torch", "safetensors"),
        why_not="a compressed graph is ONNX or OpenVINO and no longer the user's module",
    ),
    "litert-cpu": Target(
        format="LiteRT",
        converter="litert_format",
        runtime="litert_cpu",
        loads_with=("ai-edge-litert",),
        convert_worker="litert",
        precisions=("fp32", LITERT),
        why_not="the other compressed graphs are ONNX or OpenVINO, which litert-torch cannot read",
        install="pip install 'trimtab[litert]' && trimtab targets --make litert-cpu",
        systems=("Linux", "macOS"),
        free_axes=False,
        why_fixed="a .tflite file holds the model at fixed shapes, once for each number of rows",
        further_outputs=False,
        why_one="reading several outputs of a .tflite file is not built yet",
    ),
    "executorch-cpu": Target(
        format="ExecuTorch",
        converter="executorch_format",
        runtime="executorch_cpu",
        loads_with=("executorch", "torch"),
        precisions=("fp32", XNNPACK),
        why_not="the other compressed graphs are ONNX or OpenVINO, which ExecuTorch cannot read",
        install="pip install 'trimtab[executorch]'",
        systems=("Linux", "macOS"),
        free_axes=False,
        why_fixed="memory is planned for one shape of a row",
        further_outputs=False,
        why_one="reading several outputs of a .pte file is not built yet",
    ),
    "savedmodel-cpu": Target(
        format="TensorFlow SavedModel",
        converter="savedmodel_format",
        runtime="savedmodel_cpu",
        loads_with=("tensorflow-cpu",),
        convert_worker="tensorflow",
        load_worker="tensorflow",
        why_not="TensorFlow would compute the integer layers of a quantized graph in FP32",
        install="trimtab targets --make savedmodel-cpu",
        systems=("Linux", "macOS"),
        free_axes=False,
        why_fixed="our TensorFlow operations are written for fixed shapes of a row",
    ),
}


def target(name: str) -> Target:
    """The entry of a target.

    Raises:
        UnsupportedError: there is none of this name.
    """
    if name not in TARGETS:
        raise UnsupportedError(f"unknown target {name!r}", where="targets", fix=f"one of {sorted(TARGETS)}")
    return TARGETS[name]


def carries(name: str, precision: str) -> bool:
    """Whether a target can hold a candidate of a precision, one of those in `PRECISIONS`.

    Raises:
        UnsupportedError: the target is unknown.
    """
    return precision in target(name).precisions
