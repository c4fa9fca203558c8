"""The release folder: what is registered, downloaded and served; every file in it is named by its manifest.

    model files, spec.json   as converted
    release.json             what it is: name, candidate, target, gate, accuracy, …
    golden.npz               a few gate rows with the probabilities recorded at verification
    profile.json, reference.parquet   what monitoring compares with (optional)
    performance.json         figures it was verified with, and what estimates them without labels (optional)
    card.md, sbom.json       the model card, and what the release needs to run (optional)
    manifest.json            relative path → SHA-256 of every other file
    signature.json           who vouches for all of them (see `signing`); put there when the release is registered

The same inputs give the same bytes, so the digest of the manifest is the release's key. The signature is not in it: it
can be renewed.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import unicodedata
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.candidate import digest_of
from trimtab.errors import RegistryError
from trimtab.registry import strict_json
from trimtab.store import file_digest, new_folder

MANIFEST, RELEASE, GOLDEN, SPEC = "manifest.json", "release.json", "golden.npz", "spec.json"
PROFILE, REFERENCE, PERFORMANCE = "profile.json", "reference.parquet", "performance.json"
CARD, SBOM, SIGNATURE = "card.md", "sbom.json", "signature.json"
_OWN = (MANIFEST, RELEASE, GOLDEN, PROFILE, REFERENCE, PERFORMANCE, CARD, SBOM, SIGNATURE)
MOST_FILES = 10_000
LONGEST_PART = 255  # bytes of a file's name, on the file systems there are
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold: no time gets into the bytes
Array = NDArray[Any]


@dataclass(frozen=True)
class Facts:
    """What release.json says.

    Attributes:
        name: release name (registered model).
        candidate, label: id and human name of the candidate.
        target, precision, threads: what runs it.
        classes: number of classes (None of a regression); labels: their names, if the recipe has them.
        gate: the decision that let it pass, as JSON.
        accuracy: interval of the accuracy on the gate split, as JSON; None of a regression, whose metric is in `extra`.
        extra: further JSON, kept under its own keys.
    """

    name: str
    candidate: str
    label: str
    target: str
    precision: str
    threads: int
    classes: int | None
    labels: list[str] | None
    gate: Mapping[str, Any]
    accuracy: Mapping[str, Any] | None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        value = asdict(self)
        return {**value.pop("extra"), **value}


@dataclass(frozen=True)
class Golden:
    """Rows with recorded answers: inputs name → (n, ...), outputs name → (n, classes) float32."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def pack(
    converted: Path,
    out: Path,
    facts: Facts,
    golden: Golden,
    *,
    profile: bytes | Path | None = None,
    reference: bytes | Path | None = None,
    performance: bytes | None = None,
    card: bytes | None = None,
    sbom: bytes | None = None,
) -> str:
    """Build the release folder `out` (replaced as a whole) from a converted folder.

    Returns:
        The release key: SHA-256 (hex) of the manifest.

    Raises:
        RegistryError: the converted folder has no spec.json, a link, or a file with a name of ours.
    """
    sources = regular_files(converted)
    if SPEC not in sources:
        raise RegistryError(f"has no {SPEC}", where=str(converted), fix="convert the candidate again")
    if clash := sorted(set(sources) & set(_OWN)):
        raise RegistryError(f"has files with reserved names: {clash}", where=str(converted), fix="rename them")
    with new_folder(out) as draft:
        for name, path in sources.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, draft / name)
        (draft / RELEASE).write_text(_pretty(facts.to_json()))
        (draft / GOLDEN).write_bytes(_npz(golden))
        for name, content in (
            (PROFILE, profile),
            (REFERENCE, reference),
            (PERFORMANCE, performance),
            (CARD, card),
            (SBOM, sbom),
        ):
            if content is not None:
                (draft / name).write_bytes(content.read_bytes() if isinstance(content, Path) else content)
        manifest = {name: file_digest(path) for name, path in regular_files(draft).items()}
        (draft / MANIFEST).write_text(_pretty(manifest))
    return digest_of(manifest)


def check(folder: Path, *, name: str | None = None, key: str | None = None) -> dict[str, Any]:
    """Verify every file of a release folder against its manifest.

    Args:
        name: the release it must be of.
        key: the release key it must have.

    Returns:
        release.json.

    Raises:
        RegistryError: a file is changed, added, missing, a link, or outside; or it is another release.
    """
    manifest = read_manifest(folder)
    present = regular_files(folder)
    for beside in (MANIFEST, SIGNATURE):
        present.pop(beside, None)
    for file in sorted({*manifest, *present}):
        if file not in present:
            raise _broken(folder, file, "is missing")
        if file not in manifest:
            raise _broken(folder, file, "is not in the manifest")
        if file_digest(present[file]) != manifest[file]:
            raise _broken(folder, file, "was changed: its SHA-256 is another than in the manifest")
    if key is not None and digest_of(manifest) != key:
        raise _broken(folder, MANIFEST, f"is of release {digest_of(manifest)[:12]}, not {key[:12]}")
    release = _read_object(folder, RELEASE)
    if name is not None and release.get("name") != name:
        raise _broken(folder, RELEASE, f"is a release of {release.get('name')!r}, not of {name!r}")
    return release


def release_key(folder: Path) -> str:
    """SHA-256 (hex) of the folder's manifest."""
    return digest_of(read_manifest(folder))


def read_manifest(folder: Path) -> dict[str, str]:
    """The manifest: relative POSIX path → SHA-256; only paths that stay inside the folder.

    Raises:
        RegistryError: missing, not an object of strings, or with a path that leaves the folder.
    """
    return checked_manifest(_read_object(folder, MANIFEST), str(folder))


def checked_manifest(manifest: Mapping[str, Any], where: str) -> dict[str, str]:
    """A manifest from anywhere, refused if a path leaves the folder or a digest is none."""
    if len(manifest) > MOST_FILES:
        raise RegistryError(f"names {len(manifest)} files, more than {MOST_FILES}", where=f"{where}/{MANIFEST}")
    for file, digest in manifest.items():
        if file in (MANIFEST, SIGNATURE) or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise RegistryError(f"{file!r} is not a file with a SHA-256", where=f"{where}/{MANIFEST}")
    if strange := unfitting_paths(manifest):
        raise RegistryError(f"{strange[0]!r} is not a file inside the release", where=f"{where}/{MANIFEST}")
    if RELEASE not in manifest:
        raise RegistryError(f"does not name {RELEASE}", where=f"{where}/{MANIFEST}")
    return dict(manifest)


def unfitting_paths(files: Iterable[str]) -> list[str]:
    """Those that are not plain relative paths, or that no folder can hold beside another one.

    Two spellings of one name in Unicode are one file on some systems; "a" cannot be a file beside "a/b".
    """
    every, seen, strange = list(files), set(), []
    folders = {parent.as_posix() for file in every if is_contained(file) for parent in PurePosixPath(file).parents}
    for file in every:
        normal = unicodedata.normalize("NFC", file)
        if not is_contained(file) or file in folders or normal in seen:
            strange.append(file)
        seen.add(normal)
    return strange


def is_contained(file: str) -> bool:
    """Whether a relative POSIX path is plain: no "..", no root, no backslash, no empty part, no control character."""
    path = PurePosixPath(file)
    plain = bool(file) and path.as_posix() == file and not path.is_absolute() and file != "."
    plain = plain and ".." not in path.parts and "\\" not in file and file.isprintable()
    return plain and all(len(part.encode()) <= LONGEST_PART for part in path.parts)


def read_spec(folder: Path) -> dict[str, Any]:
    """spec.json: names, dtypes and shapes of inputs and outputs."""
    return _read_object(folder, SPEC)


def read_json(folder: Path, file: str) -> dict[str, Any]:
    """A JSON object of the release folder.

    Raises:
        RegistryError: it is missing, a link, too long, or not one.
    """
    return _read_object(folder, file)


def read_golden(folder: Path) -> Golden:
    """The golden rows of a release folder.

    Raises:
        RegistryError: golden.npz is missing or not an archive of plain arrays.
    """
    try:
        with np.load(folder / GOLDEN, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise _broken(folder, GOLDEN, f"cannot be read: {error}") from None
    sides: dict[str, dict[str, Array]] = {"inputs": {}, "outputs": {}}
    for name, values in arrays.items():
        side, _, rest = name.partition("/")
        if side not in sides or not rest:
            raise _broken(folder, GOLDEN, f"has an array {name!r}, expected inputs/… or outputs/…")
        sides[side][rest] = values
    return Golden(sides["inputs"], sides["outputs"])


def _npz(golden: Golden) -> bytes:
    arrays = {f"inputs/{name}": values for name, values in golden.inputs.items()}
    arrays |= {f"outputs/{name}": values for name, values in golden.outputs.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH), "w") as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(arrays[name]), allow_pickle=False)
    return buffer.getvalue()


def regular_files(folder: Path) -> dict[str, Path]:
    """Relative POSIX path → path of every file; a link or special file anywhere below is refused."""
    files = {}
    for path in sorted(folder.rglob("*")):
        file = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise _broken(folder, file, "is a link or special file")
        if path.is_file():
            files[file] = path
    return files


def _read_object(folder: Path, file: str) -> dict[str, Any]:
    path = folder / file
    try:
        if path.is_symlink():
            raise _broken(folder, file, "is a link or special file")
        if path.stat().st_size > strict_json.LIMIT:
            raise _broken(folder, file, f"has more than {strict_json.LIMIT} bytes")
        value = strict_json.parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _broken(folder, file, f"cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise _broken(folder, file, "is not a JSON object")
    return value


def _broken(folder: Path, file: str, what: str) -> RegistryError:
    return RegistryError(f"{file} {what}", where=str(folder), fix="build or download the release again")


def _pretty(value: Any) -> str:
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"
