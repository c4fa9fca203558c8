"""`python -m benchmarks.soak.clocked FILE MODULE …`: MODULE with a wall clock that is off by the seconds in FILE.

As when somebody sets the clock of the machine, but of this process alone: `time.time` and `time.time_ns` jump, the
monotonic clock does not. FILE holds one float64 and may be changed at any time.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

_OFFSET = struct.Struct("<d")


def set_offset(path: Path, seconds: float) -> None:
    """Let the clocks of the processes that were started with this file be off by so much, from now on."""
    if not path.exists():
        path.write_bytes(_OFFSET.pack(seconds))
        return
    with path.open("r+b") as stream:  # in place: they have it mapped
        stream.write(_OFFSET.pack(seconds))


def main() -> None:
    """Change the clock, then run the module."""
    with Path(sys.argv[1]).open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + _OFFSET.unpack_from(mapped)[0]
    time.time_ns = lambda: real_ns() + int(_OFFSET.unpack_from(mapped)[0] * 1e9)
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
