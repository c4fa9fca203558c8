"""Records of the write-ahead file: how a block becomes bytes, and how bytes are known to be whole.

    record  = length u32 | CRC-32 of payload u32 | payload          (little endian)
    payload = kind u8 ("R" rows, "L" labels) | header length u32 | header JSON | arrays, raw, C order

Numbers are raw arrays (a 3x32x32 float image is 12 KB instead of about 60 KB of JSON, and costs one copy); text and
shapes are in the header. A length of 0 is no record: a file's tail that a power cut left as zeros must not pass,
and the CRC-32 of nothing is 0.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from trimtab.journal.rows import Array, LabelBlock, LabelRow, Row, RowBlock, blocks_of

FRAME = struct.Struct("<II")
HEAD = struct.Struct("<cI")
ROWS, LABELS = b"R", b"L"
MAX_RECORD = 2**31
Part = bytes | memoryview
_NUMBERS = ("row", "time_ns", "predicted", "confidence", "latency_ms", "status", "output")
_TEXTS = ("request_id", "version", "error")


@dataclass(frozen=True)
class Record:
    """One whole record found in a file: its kind, how many rows or labels, and where its parts are."""

    kind: bytes
    count: int
    header: Mapping[str, Any]
    body: memoryview
    end: int


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Records of these rows; one for all of them where they have the same inputs, as those of a request do."""
    return b"".join(encode_block(block) for block in blocks_of(rows))


def encode_block(block: RowBlock) -> bytes:
    """One record of these rows; their offsets are not in it."""
    return b"".join(parts_of(block))


def parts_of(block: RowBlock) -> list[Part]:
    """The same record, in parts to be written one after the other: what is large is not copied."""
    texts = {name: _short(getattr(block, name)) for name in _TEXTS}
    arrays = {name: getattr(block, name) for name in _NUMBERS}
    arrays |= {f"in:{name}": values for name, values in block.inputs.items()}
    return _encode(ROWS, len(block), texts, arrays)


def encode_labels(labels: Sequence[LabelRow], known: Sequence[bool]) -> bytes:
    """One record of labels; `known` says of each whether its row is in the journal already."""
    numbers = any(isinstance(label.label, float) for label in labels)  # of a regression; the dtype is in the record
    arrays: dict[str, Array] = {
        "row": np.array([label.row for label in labels], np.int32),
        "label": np.array([label.label for label in labels], float if numbers else np.int64),
        "time_ns": np.array([label.time_ns for label in labels], np.int64),
        "known": np.array(known, np.bool_),
    }
    texts = {"request_id": _short([label.request_id for label in labels])}
    return b"".join(_encode(LABELS, len(labels), texts, arrays))


def scan(data: bytes | memoryview, start: int) -> Iterator[Record]:
    """Whole records from `start` on; ends at the first one that is torn, damaged or absent.

    The `end` of the last record yielded is the length of the sound part of the file.
    """
    view = memoryview(data)
    while start + FRAME.size <= len(view):
        length, crc = FRAME.unpack_from(view, start)
        begin, end = start + FRAME.size, start + FRAME.size + length
        if length <= HEAD.size or end > len(view) or zlib.crc32(view[begin:end]) != crc:
            return
        kind, header_length = HEAD.unpack_from(view, begin)
        body = begin + HEAD.size + header_length
        header = orjson.loads(view[begin + HEAD.size : body])
        yield Record(kind, header["n"], header, view[body:end], end)
        start = end


def decode_rows(record: Record, offset: int) -> RowBlock:
    """The block of a rows record whose first row is at `offset`."""
    arrays = _arrays(record)
    count = record.count
    columns: dict[str, Any] = {name: _long(record.header[name], count) for name in _TEXTS}
    columns |= {name: arrays.pop(name) for name in _NUMBERS}
    return RowBlock(
        offset=np.arange(offset, offset + count, dtype=np.int64),
        **columns,
        inputs={name.removeprefix("in:"): values for name, values in arrays.items()},
    )


def decode_labels(record: Record, at: int) -> LabelBlock:
    """The block of a labels record before which the journal held `at` rows."""
    return LabelBlock(
        at=np.full(record.count, at, np.int64),
        request_id=_long(record.header["request_id"], record.count),
        **_arrays(record),
    )


def _encode(kind: bytes, count: int, texts: Mapping[str, Any], arrays: Mapping[str, Array]) -> list[Part]:
    shapes = [(name, values.dtype.str, values.shape) for name, values in arrays.items()]
    header = orjson.dumps({"n": count, **texts, "arrays": shapes})
    raw = [np.ascontiguousarray(values).data.cast("B") for values in arrays.values() if values.size]
    parts: list[Part] = [HEAD.pack(kind, len(header)), header, *raw]
    size = sum(map(len, parts))
    if size >= MAX_RECORD:
        raise ValueError(f"{size} bytes in one journal record")
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return [FRAME.pack(size, crc), *parts]


def _arrays(record: Record) -> dict[str, Array]:
    arrays, start = {}, 0
    for name, dtype, shape in record.header["arrays"]:
        count = int(np.prod(shape))
        values = np.frombuffer(record.body, dtype, count, start) if count else np.empty(0, dtype)
        arrays[name] = values.reshape(shape)
        start += count * np.dtype(dtype).itemsize
    return arrays


def _short(column: list[Any]) -> Any:
    """A column whose values are all equal is written once: the rows of a request share id and version."""
    same = bool(column) and all(value == column[0] for value in column)
    return {"all": column[0]} if same else column


def _long(column: Any, count: int) -> list[Any]:
    return [column["all"]] * count if isinstance(column, dict) else column
