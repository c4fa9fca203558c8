"""Files that a release must never hold, though somebody signed it: pickles, bombs, archives that leave their folder.

Called by what they are; each is a file name and what makes its bytes.
"""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet

TOUCHED: list[str] = []


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return TOUCHED.append, ("unpickled",)


class Call:
    """A pickle that calls a function by its module's name."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("unpickled",)


def archive(*entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        for name, content in entries:
            made.writestr(name, content)
    return buffer.getvalue()


def array(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return buffer.getvalue()


def claimed(shape: tuple[int, ...]) -> bytes:
    """The header of an array that claims more than is there."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def table() -> bytes:
    """An empty column of more rows than anybody can hold: a few bytes in Parquet."""
    buffer = io.BytesIO()
    parquet.write_table(arrow.table({name: arrow.nulls(60_000_000) for name in ("a", "b")}), buffer)
    return buffer.getvalue()


def script(data: bytes) -> bytes:
    return archive(("m/data.pkl", data), ("m/constants.pkl", b"\x80\x02)."), ("m/code/m.py", b""), ("m/version", b"3"))


ZEROS = bytes(65 << 20)
FORBIDDEN: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a pickle called weights": ("weights.bin", lambda: pickle.dumps(Bomb())),
    "a pickle without a call called weights": ("weights.bin", lambda: pickle.dumps({"w": [1.0, 2.0]}, protocol=4)),
    "a pickle of protocol 0": ("weights.bin", lambda: pickle.dumps(Call(), protocol=0)),
    "a pickle of protocol 1": ("model.bin", lambda: pickle.dumps(Call(), protocol=1)),
    "a pickle called .onnx": ("other.onnx", lambda: pickle.dumps(Bomb(), protocol=5)),
    "a pickle called .json": ("other.json", lambda: pickle.dumps(Bomb())),
    "a pickle with a tail": ("weights.bin", lambda: pickle.dumps(Bomb()) + bytes(1000)),
    "a pickle by its name": ("extra.pkl", lambda: b"text"),
    "a joblib dump by its name": ("model.JOBLIB", lambda: b"text"),
    "a library": ("custom_op.so", lambda: b"\x7fELF"),
    "a path file that Python runs": ("evil.pth", lambda: b"import os"),
    "compiled Python": ("loader.pyc", lambda: b"\xa7\r\r\n"),
    "weights saved by torch.save": (
        "weights.pt",
        lambda: archive(("w/data.pkl", pickle.dumps(Bomb())), ("w/version", b"3")),
    ),
    "TorchScript with a foreign class": ("model.pt", lambda: script(pickle.dumps(Call(), protocol=2))),
    "TorchScript with a class by STACK_GLOBAL": ("model.pt", lambda: script(pickle.dumps(Call(), protocol=4))),
    "TorchScript with torch.load": ("model.pt", lambda: script(b"\x80\x02ctorch\nload\nX\x01\x00\x00\x00x\x85R.")),
    "TorchScript with a pickle that does not end": ("model.pt", lambda: script(b"\x80\x02}")),
    "an .npz of objects": ("rows.npz", lambda: archive(("a.npy", array(np.array([Bomb()], dtype=object))))),
    "an .npz with a pickle as an array": ("rows.npz", lambda: archive(("a.npy", pickle.dumps(Bomb())))),
    "an .npy of objects": ("rows.npy", lambda: array(np.array([{}], dtype=object))),
    "an .npy that claims a terabyte": ("rows.npy", lambda: claimed((1 << 37,))),
    "an .npz whose array claims a terabyte": ("rows.npz", lambda: archive(("a.npy", claimed((1 << 20, 1 << 17))))),
    "a bomb in an .npz": ("rows.npz", lambda: archive(("a.npy", ZEROS), method=zipfile.ZIP_DEFLATED)),
    "a bomb in TorchScript": ("model.pt", lambda: archive(("m/data/0", ZEROS), method=zipfile.ZIP_DEFLATED)),
    "a bomb in a .gz": ("model.xml.gz", lambda: gzip.compress(ZEROS)),
    "a bomb in a .gz of another name": ("model.txt", lambda: gzip.compress(ZEROS)),
    "a pickle in a .gz": ("model.xml.gz", lambda: gzip.compress(pickle.dumps(Bomb()))),
    "a .gz cut short": ("model.xml.gz", lambda: gzip.compress(b"<xml/>" * 1000)[:-12]),
    "a table of too many rows": ("more.parquet", table),
    "a table that is none": ("more.parquet", lambda: b"PAR1" + struct.pack("<I", 1 << 30) + b"PAR1"),
    "an archive entry outside": ("rows.npz", lambda: archive(("../../evil.npy", b""))),
    "an archive entry at the root": ("rows.npz", lambda: archive(("/etc/evil.npy", b""))),
    "an archive entry with a backslash": ("rows.npz", lambda: archive(("..\\evil.npy", b""))),
    "an archive cut in the middle": ("rows.npz", lambda: archive(("a.npy", array(np.ones(100))))[60:]),
}
