"""Over a hundred hostile releases, each made of a good signed one, and whether the check before loading refuses them.

Three kinds. Somebody changes files after they were signed; somebody who can write but not sign makes them look right;
and a build that is signed holds what must never load (`forbidden`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.registry.forbidden import FORBIDDEN, TOUCHED
from trimtab.candidate import digest_of
from trimtab.errors import RegistryError
from trimtab.registry import strict_json
from trimtab.registry.hostile import refuse_hostile
from trimtab.registry.keys import Keyring
from trimtab.registry.package import MANIFEST, SIGNATURE, check, regular_files, release_key
from trimtab.registry.signing import sign_folder, verify_release
from trimtab.store import file_digest

DIGEST = "0" * 64
BAD_NAMES = (
    *("../evil", "/etc/passwd", "a/../../b", "a//b", "./a", "a/.", "", ".", "..", "a\\b", "a\nb", "a/", "a\x00b"),
    *("release.json/", "‮gnp.exe", "x" * 300, "signature.json", "manifest.json"),
    *("\ud800", "a/../b", "~/../x", "C:\\x"),
)
BAD_DIGESTS: tuple[Any, ...] = (None, 5, "", "0" * 63, "G" * 64, ["0" * 64])
BAD_SIGNATURES = {
    "empty": b"",
    "cut": b"{",
    "list": b"[]",
    "null": b"null",
    "number": b'{"mediaType": 1}',
    "pickle": b"\x80\x04K\x01.",
    "nested": b"[" * 100_000,
    "twice": b'{"dsseEnvelope": {}, "dsseEnvelope": {}}',
    "huge": b" " * (strict_json.LIMIT + 1),
    "strange": b'{"mediaType":"x","verificationMaterial":{"publicKey":{"hint":{}}},'
    b'"dsseEnvelope":{"payload":"","payloadType":"","signatures":[{"sig":""}]}}',
}
ADDED = ("loader.py", "more/more.bin", ".hidden", "sitecustomize.py", "conftest.py", "model.pkl")


@dataclass(frozen=True)
class Attack:
    """What is done to a release folder, and what a refusal must name.

    Attributes:
        what: in words.
        do: changes the folder; gets the keyring of whoever signed it.
        named: must be in the refusal.
        at_registration: the door it comes to: before it is signed; else before it is loaded.
        resigned: it is a release of its own, with a valid signature; else it claims to be the one it was made of.
    """

    what: str
    do: Callable[[Path, Keyring], object]
    named: str
    at_registration: bool = False
    resigned: bool = False


def manifest_again(folder: Path) -> str:
    """What somebody who can write but not sign would do: name the files as they are now; the new release key."""
    found = {
        file: file_digest(path) for file, path in regular_files(folder).items() if file not in (MANIFEST, SIGNATURE)
    }
    (folder / MANIFEST).write_text(json.dumps(found))
    return digest_of(found)


def attacks(release: Path, name: str, aside: Path) -> Iterator[Attack]:
    """Every attack on a release like this one.

    Args:
        release: a good one, signed; only read.
        aside: an empty folder for what attackers keep elsewhere.
    """
    files = [file for file in regular_files(release) if file != SIGNATURE]
    yield from _changes(files)
    yield from _links(files, aside)
    yield from _claims(release, name, aside)
    yield from _names(files)
    for what, (file, content) in FORBIDDEN.items():
        forbidden = partial(_forbidden, name=name, file=file, content=content)
        yield Attack(f"signed with {what}", forbidden, f"{file} ", resigned=True)


def accepted(release: Path, keys: Keyring, name: str, work: Path) -> tuple[int, list[str]]:
    """Try every attack on a copy of its own, as the service and the command line look before they load.

    Returns:
        How many there were, and those that were accepted or refused without naming what was wrong.
    """
    verify_release(release, keys=keys, name=name)  # without an attack it is accepted
    every, through = list(attacks(release, name, work / "aside")), []
    for attack in every:
        folder = Path(shutil.copytree(release, work / "attacked", symlinks=True))
        attack.do(folder, keys)
        said = _refusal(folder, keys, name, release_key(release), attack)
        if said is None or attack.named not in said:
            through.append(f"{attack.what}: {said}")
        shutil.rmtree(folder)
    if TOUCHED:
        through.append("something was unpickled")
    return len(every), through


def _refusal(folder: Path, keys: Keyring, name: str, key: str, attack: Attack) -> str | None:
    try:
        if attack.at_registration:
            check(folder)
            refuse_hostile(folder)
        else:
            verify_release(folder, keys=keys, name=name, key=None if attack.resigned else key)
    except RegistryError as error:
        return str(error)
    return None


def _changes(files: list[str]) -> Iterator[Attack]:
    for file in files:
        for place in (0.0, 0.5, 0.999):
            yield Attack(f"a bit of {file} flipped at {place:.0%}", partial(_flip, file=file, place=place), file)
        yield Attack(f"{file} cut", partial(_rewrite, file=file, change=_half), file)
        yield Attack(f"{file} emptied", partial(_rewrite, file=file, change=lambda _: b""), file)
        yield Attack(f"{file} missing", partial(_remove, file=file), file)
    for file in ADDED:
        yield Attack(f"{file} added", partial(_add, file=file), file)
    first, second = [file for file in files if file not in (MANIFEST, "release.json")][:2]
    yield Attack(f"{first} and {second} swapped", partial(_swap, one=first, other=second), "was changed")
    for what, content in BAD_SIGNATURES.items():
        attack = partial(_rewrite, file=SIGNATURE, change=lambda _, content=content: content)
        yield Attack(f"a signature that is {what}", attack, SIGNATURE)


def _links(files: list[str], aside: Path) -> Iterator[Attack]:
    for file in (files[0], MANIFEST, SIGNATURE):
        yield Attack(f"{file} a link to the same bytes", partial(_link, file=file, aside=aside), file)
    yield Attack("a pipe", lambda folder, keys: os.mkfifo(folder / "pipe"), "pipe")


def _claims(release: Path, name: str, aside: Path) -> Iterator[Attack]:
    """What somebody does who can write but has no trusted key, and manifests that would leave the folder."""
    theirs = Keyring(aside / "theirs")
    unsigned = partial(_remove, file=SIGNATURE)
    yield Attack("not signed", unsigned, "not signed")
    yield Attack("signed by somebody else", lambda folder, keys: sign_folder(folder, name, theirs), "not trusted")
    yield Attack("signed for another name", lambda folder, keys: sign_folder(folder, "other", keys), "'other'")
    yield Attack("a new manifest over changed files", _changed_with_manifest, "was changed after it was signed")
    yield Attack("another version's manifest", partial(_other_manifest, name=name), "was changed")
    yield Attack("the whole of another version", partial(_other_version, name=name), "is of release")
    for digest in BAD_DIGESTS:
        entry = partial(_entry, file="release.json", digest=digest)
        yield Attack(f"a digest {str(digest)[:20]!r}", entry, "'release.json'", True)


def _names(files: list[str]) -> Iterator[Attack]:
    """Manifests that name what no release folder can hold, or what this one does not."""
    folders = {parent.as_posix() for file in files for parent in PurePosixPath(file).parents} - {"."}
    for file in (*BAD_NAMES, f"{files[0]}/x", *sorted(folders)):
        yield Attack(f"a manifest that names {file[:20]!r}", partial(_entry, file=file, digest=DIGEST), MANIFEST, True)
    absent = partial(_entry, file="absent.bin", digest=DIGEST)
    yield Attack("a manifest that names an absent file", absent, "absent.bin is missing", True)


def _rewrite(folder: Path, keys: Keyring, *, file: str, change: Callable[[bytes], bytes]) -> None:
    (folder / file).write_bytes(change((folder / file).read_bytes()))


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flip(folder: Path, keys: Keyring, *, file: str, place: float) -> None:
    content = bytearray((folder / file).read_bytes())
    content[int(place * len(content))] ^= 1
    (folder / file).write_bytes(bytes(content))


def _remove(folder: Path, keys: Keyring, *, file: str) -> None:
    (folder / file).unlink()


def _add(folder: Path, keys: Keyring, *, file: str) -> None:
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text("import os")


def _swap(folder: Path, keys: Keyring, *, one: str, other: str) -> None:
    first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
    (folder / one).write_bytes(second)
    (folder / other).write_bytes(first)


def _link(folder: Path, keys: Keyring, *, file: str, aside: Path) -> None:
    target = aside / f"elsewhere-{file.replace('/', '-')}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder / file, target)
    (folder / file).symlink_to(target.resolve())


def _changed_with_manifest(folder: Path, keys: Keyring) -> None:
    _flip(folder, keys, file="spec.json", place=0.5)
    manifest_again(folder)


def _other(folder: Path, keys: Keyring, name: str) -> None:
    """The release as another version would be: one fact differs, everything fits, ours signed it."""
    facts = json.loads((folder / "release.json").read_text())
    (folder / "release.json").write_text(json.dumps({**facts, "candidate": "fedcba9876543210"}))
    manifest_again(folder)
    sign_folder(folder, name, keys)


def _other_version(folder: Path, keys: Keyring, *, name: str) -> None:
    _other(folder, keys, name)


def _other_manifest(folder: Path, keys: Keyring, *, name: str) -> None:
    mine = (folder / "release.json").read_bytes()
    _other(folder, keys, name)
    (folder / "release.json").write_bytes(mine)


def _entry(folder: Path, keys: Keyring, *, file: str, digest: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, file: digest}))


def _forbidden(folder: Path, keys: Keyring, *, name: str, file: str, content: Callable[[], bytes]) -> None:
    (folder / file).write_bytes(content())
    manifest_again(folder)
    sign_folder(folder, name, keys)
