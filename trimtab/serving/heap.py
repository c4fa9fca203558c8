"""How memory is kept: bodies come and go by the million, and what they leave behind must not add up.

glibc gives each thread an arena of its own, and takes ever larger blocks from the heap once it has seen them freed;
both leave holes that only grow. With one arena, and large blocks always from the system, they go back there.
"""

from __future__ import annotations

import ctypes
import gc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
LARGE = 2**20  # bytes; as large as a body of a hundred thousand numbers, and rarer


def keep_small() -> None:
    """Before threads are started; where the C library is another one than glibc, nothing happens."""
    library = ctypes.CDLL(None)
    mallopt = getattr(library, "mallopt", None)
    if mallopt is None or not hasattr(library, "gnu_get_libc_version"):
        return
    for option, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, 8 * LARGE)):
        mallopt(option, value)


def freeze() -> None:
    """Once everything is imported: what is there now is never looked at again by the collector of cycles.

    It would be at each full collection, and all requests would wait for the 25 to 60 ms that takes.
    """
    gc.collect()
    gc.freeze()
