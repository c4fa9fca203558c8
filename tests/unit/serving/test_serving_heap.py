from __future__ import annotations

import gc
import platform
import subprocess
import sys

import pytest

from trimtab.serving.heap import freeze

# Ten threads that hold small blocks at the same time, then glibc's own account of its arenas.
COUNT = """
import ctypes, sys, tempfile, threading
from trimtab.serving.heap import keep_small
if sys.argv[1] == "small":
    keep_small()
library = ctypes.CDLL(None)
library.malloc.restype = library.fopen.restype = ctypes.c_void_p
library.malloc_info.argtypes, library.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
together = threading.Barrier(10)
def hold():
    library.malloc(1000)
    together.wait()
threads = [threading.Thread(target=hold) for _ in range(10)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with tempfile.NamedTemporaryFile() as told:
    stream = library.fopen(told.name.encode(), b"w")
    library.malloc_info(0, stream)
    library.fclose(stream)
    print(told.read().count(b"<heap nr="))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_threads_share_one_arena() -> None:
    def arenas(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert arenas("small") == 1
    assert arenas("as it is") > 1


def test_what_is_there_when_serving_begins_is_not_looked_at_again():
    try:
        freeze()
        assert gc.get_freeze_count() > 10_000  # at least what the tests imported
        assert len(gc.get_objects()) < gc.get_freeze_count()
    finally:
        gc.unfreeze()
