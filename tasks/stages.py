"""The stages of a release, in order, and with them everything heavy: torch, Lightning, ONNX, the runtimes, plots."""

from __future__ import annotations

from tasks.compress import compress
from tasks.convert import convert
from tasks.optimize import optimize
from tasks.promote import promote
from tasks.register import register
from tasks.select import select
from tasks.verify import verify

__all__ = ["compress", "convert", "optimize", "promote", "register", "select", "verify"]
