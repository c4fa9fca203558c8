"""What an Arrow stream is made of, looked at before anything of it is unpacked.

pyarrow decompresses a batch while it reads it, and has no limit for that: 16 MB can become as many GB. So a stream is
first read message by message, which copies nothing, and refused where a batch says that it is compressed. That stands
in the message's own flatbuffer (format/Message.fbs of Apache Arrow), for which pyarrow has no accessor.
"""

from __future__ import annotations

import struct

from trimtab.errors import ProtocolError

MOST_MESSAGES = 10_000
# Message.fbs: table Message {version, header_type, header, bodyLength, custom_metadata}: a union takes two fields.
_HEADER = 2
# table RecordBatch {length, nodes, buffers, compression, variadicBufferCounts}
_COMPRESSION = 3


def check_messages(body: bytes) -> None:
    """See that a stream is a schema and plain record batches.

    Raises:
        ProtocolError: it is compressed or dictionary-encoded, in a format older than Arrow 1.0, or in too many pieces.
        pyarrow.ArrowException, OSError: it is no stream.
    """
    import pyarrow as pa
    from pyarrow import ipc

    reader = ipc.MessageReader.open_stream(pa.py_buffer(body))
    for _ in range(MOST_MESSAGES):
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        if message.metadata_version != ipc.MetadataVersion.V5:
            raise _refused("is of a format older than Arrow 1.0", "write it with format version V5")
        if message.type == "dictionary":
            raise _refused("has dictionary-encoded columns", "cast them to their values")
        if message.type != "schema" and is_compressed(bytes(message.metadata)):
            raise _refused("has compressed buffers", "write it with compression=None")
    raise _refused(f"has more than {MOST_MESSAGES} messages", "write larger record batches")


def is_compressed(metadata: bytes) -> bool:
    """Whether the flatbuffer of a record batch message names a compression.

    Raises:
        ValueError: it leads outside itself.
    """
    message = _u32(metadata, 0)
    header = _field(metadata, message, _HEADER)
    if header is None:
        raise ValueError("a message without a header")
    return _field(metadata, header + _u32(metadata, header), _COMPRESSION) is not None


def _field(buffer: bytes, table: int, number: int) -> int | None:
    """Where a field of a table lies; None where the table does not have it.

    A table begins with the distance back to its vtable: u16 size of the vtable, u16 size of the table, then a u16 a
    field, its distance from the table, 0 where it is absent.
    """
    vtable = table - struct.unpack("<i", _slice(buffer, table, 4))[0]
    entry = 4 + 2 * number
    if entry + 2 > _u16(buffer, vtable):
        return None
    distance = _u16(buffer, vtable + entry)
    return table + distance if distance else None


def _u16(buffer: bytes, at: int) -> int:
    return int(struct.unpack("<H", _slice(buffer, at, 2))[0])


def _u32(buffer: bytes, at: int) -> int:
    return int(struct.unpack("<I", _slice(buffer, at, 4))[0])


def _slice(buffer: bytes, at: int, size: int) -> bytes:
    if not 0 <= at <= len(buffer) - size:
        raise ValueError("a flatbuffer that leads outside itself")
    return buffer[at : at + size]


def _refused(what: str, fix: str) -> ProtocolError:
    return ProtocolError(what, where="arrow", fix=fix, code="BAD_REQUEST", status=415)
