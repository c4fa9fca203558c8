"""Conversion: a deployed torch module, or its quantized ONNX graph, in the format a target's runtime loads.

One format a file; `convert` writes a folder, loads it with the very predictor that will serve it, and compares.
"""

from trimtab.convert.job import Code
from trimtab.convert.targets import convert
from trimtab.targets import carries

__all__ = ["Code", "carries", "convert"]
