"""What a release must not hold, whoever made it: pickles, archives that unfold into a bomb, names that run as code.

A signature says who vouches for a file, not that loading it is harmless; this is looked at before a release is
registered and before it is loaded. Nothing is unpickled and nothing is unpacked: pickles are told by their opcodes,
archives by their directory or by counting what comes out.

TorchScript is a zip archive with pickles in it that PyTorch's own C++ reads. It makes objects of the archive's own
classes and of PyTorch's only, so those are allowed and any other is refused.
"""

from __future__ import annotations

import gzip
import io
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trimtab.errors import RegistryError
from trimtab.registry.package import regular_files

LARGE = 64 << 20  # bytes: what unfolds to less is never called a bomb
RATIO = 200  # unpacked over packed; XML of a graph unfolds 20-fold, weights that are mostly zero up to 100-fold
LARGEST = 8 << 30  # bytes of anything unpacked
MOST_CELLS = 100_000_000  # rows times columns of a table: a constant column of 10^9 rows is a few bytes in Parquet
MOST_OPCODES = 1_000_000
PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle")
PROGRAMS = (".so", ".dll", ".dylib", ".pyd", ".pyc", ".pyo", ".pth", ".exe", ".sh")
_CHUNK = 1 << 20
_TORCH = re.compile(
    r"__torch__\..*|torch [A-Z]\w*|torch\._utils _rebuild\w*|torch\.jit\._pickle \w+|collections OrderedDict"
)


def refuse_hostile(folder: Path) -> None:
    """Look at every file of a release folder.

    Raises:
        RegistryError: names the first file that must not be loaded, and why.
    """
    for file, path in regular_files(folder).items():
        if reason := _why_not(path):
            raise RegistryError(
                f"{file} {reason}", where=str(folder), fix="release without that file; nothing was loaded"
            )


def _why_not(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in PICKLES or suffix in PROGRAMS:
        return f"is a {'pickle' if suffix in PICKLES else 'program'} by its name"
    with path.open("rb") as stream:
        start = stream.read(8)
        stream.seek(0)
        if zipfile.is_zipfile(stream):
            return _zip(path)
        stream.seek(0)
        if start.startswith(b"\x1f\x8b"):
            return _gzip(stream, path.stat().st_size)
        if start.startswith(b"\x93NUMPY"):
            return _npy(stream)
        if start.startswith(b"PAR1") or suffix == ".parquet":
            return _parquet(path)
        return "is a pickle" if _is_pickle(stream) else None


def _zip(path: Path) -> str | None:
    """An archive: .npz, TorchScript, or any other file that a zip reader would open."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            if _is_bomb(unpacked, path.stat().st_size):
                return f"unfolds to {unpacked} bytes from {path.stat().st_size}"
            names = [entry.filename for entry in entries]
            if len(set(names)) != len(names):
                return "has an entry twice"
            if strange := [name for name in names if name.startswith("/") or ".." in name.split("/") or "\\" in name]:
                return f"has an entry {strange[0]!r} that leaves its folder"
            script = any(name.endswith("/constants.pkl") for name in names)
            for entry in entries:
                if reason := _entry(archive, entry, script):
                    return f"has an entry {entry.filename!r} that {reason}"
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        return f"is an archive that cannot be read: {error}"
    return None


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, script: bool) -> str | None:
    if entry.is_dir():
        return None
    pickled = entry.filename.lower().endswith((*PICKLES, ".debug_pkl"))
    if pickled and not script:
        return "is a pickle"
    with io.BufferedReader(archive.open(entry)) as stream:  # type: ignore[type-var]
        if pickled:
            return _foreign_class(stream)
        if stream.peek(8).startswith(b"\x93NUMPY"):
            return _npy(stream)
        return "is a pickle" if _is_pickle(stream) else None


def _gzip(stream: IO[bytes], packed: int) -> str | None:
    """Counted while it is unpacked in pieces: a gzip file does not truly say what it unfolds to."""
    unpacked = 0
    try:
        with gzip.GzipFile(fileobj=stream) as unfolding:
            start = unfolding.read(_CHUNK)
            if _is_pickle(io.BytesIO(start)):
                return "unfolds to a pickle"
            piece = start
            while piece:
                unpacked += len(piece)
                if _is_bomb(unpacked, packed):
                    return f"unfolds to more than {unpacked} bytes from {packed}"
                piece = unfolding.read(_CHUNK)
    except (OSError, EOFError, zlib.error) as error:
        return f"is an archive that cannot be read: {error}"
    return None


def _npy(stream: IO[bytes]) -> str | None:
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            return f"is an array of an unknown version {version}"
        shape, _, dtype = read(stream)
    except ValueError as error:
        return f"is an array that cannot be read: {error}"
    if dtype.hasobject:
        return "is an array of pickled objects"
    cells = dtype.itemsize
    for size in shape:
        cells *= size
    return f"is an array that claims {cells} bytes" if cells > LARGEST else None


def _parquet(path: Path) -> str | None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        facts = parquet.read_metadata(path)
        groups = [facts.row_group(index).total_byte_size for index in range(facts.num_row_groups)]
    except (OSError, ValueError, arrow.ArrowException) as error:
        return f"is a table that cannot be read: {error}"
    cells = facts.num_rows * facts.num_columns
    if cells > MOST_CELLS or _is_bomb(sum(groups), path.stat().st_size):
        return f"unfolds to {facts.num_rows} rows of {facts.num_columns} columns, {sum(groups)} bytes"
    return None


def _is_bomb(unpacked: int, packed: int) -> bool:
    return unpacked > LARGEST or (unpacked > LARGE and unpacked > RATIO * packed)


def _is_pickle(stream: IO[bytes]) -> bool:
    """Whether the bytes are a whole pickle: opcodes up to the stop that begin with a protocol, or import something.

    Without an import a pickle can call nothing. An import needs text (two lines of ASCII, or strings before it), which
    random weights do not have by chance; most run into an unknown opcode within a few bytes, text and graphs at once.
    """
    names = [name for name, _ in _opcodes(stream)]
    if "STOP" not in names:
        return False
    texts = any("UNICODE" in name or "STRING" in name for name in names)
    return names[0] == "PROTO" or bool({"GLOBAL", "INST"} & {*names}) or ("STACK_GLOBAL" in names and texts)


def _foreign_class(stream: IO[bytes]) -> str | None:
    """A class in TorchScript's pickles that is neither the archive's own nor one of PyTorch's for tensors."""
    last = ""
    for last, argument in _opcodes(stream):
        if last in ("STACK_GLOBAL", "OBJ", "INST", "EXT1", "EXT2", "EXT4"):  # PyTorch writes protocol 2: GLOBAL only
            return f"makes an object by {last}, which TorchScript does not"
        if last == "GLOBAL" and not _TORCH.fullmatch(str(argument)):
            return f"makes an object of {argument!r}"
    return None if last == "STOP" else "is a pickle that does not end"


def _opcodes(stream: IO[bytes]) -> Iterator[tuple[str, object]]:
    """Opcodes up to the stop, or up to what is none."""
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MOST_OPCODES:
                return
            yield opcode.name, argument
    except (ValueError, IndexError, UnicodeError, OverflowError, MemoryError, EOFError, zipfile.BadZipFile):
        return
