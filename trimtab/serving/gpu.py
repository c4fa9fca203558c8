"""Memory and load of the first NVIDIA GPU, by NVML (nvidia-ml-py); only where there is one."""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

DEVICE = Path("/dev/nvidiactl")
_logger = logging.getLogger(__name__)


class Gpu:
    """The first GPU.

    Args:
        nvml: the module `pynvml`, initialised. handle: of the GPU.
    """

    def __init__(self, nvml: ModuleType | Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    @classmethod
    def first(cls) -> Gpu | None:
        """The first GPU; None, with a line in the log where that is a surprise, if there is none that can be asked."""
        if not DEVICE.exists():
            return None
        try:
            import pynvml
        except ImportError:
            _logger.warning("there is a GPU and nothing to ask it with: pip install 'trimtab[gpu]'")
            return None
        try:
            pynvml.nvmlInit()
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByIndex(0))
        except pynvml.NVMLError as error:
            _logger.warning("the GPU cannot be asked: %s", error)
            return None

    def read(self) -> dict[str, float]:
        """Bytes in use ("memory"), and the share of the last moments in which a kernel ran ("load", 0 to 1)."""
        memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        load = self._nvml.nvmlDeviceGetUtilizationRates(self._handle)
        return {"memory": float(memory.used), "load": load.gpu / 100}
