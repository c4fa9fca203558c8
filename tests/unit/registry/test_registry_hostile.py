"""Hostile releases: each is refused, by the name of what is wrong with it, before anything of it is loaded.

Three kinds. Somebody changes files after they were signed; somebody who can write but not sign makes them look right
(manifest and signature made anew, with a key of their own); and a build that is signed holds what must never load.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from releases import packed

from benchmarks.registry.forbidden import FORBIDDEN, TOUCHED
from benchmarks.registry.hostile import BAD_DIGESTS, BAD_NAMES, BAD_SIGNATURES, DIGEST, accepted, manifest_again
from trimtab.errors import RegistryError
from trimtab.registry import strict_json
from trimtab.registry.hostile import _is_pickle, refuse_hostile
from trimtab.registry.keys import Keyring
from trimtab.registry.package import MANIFEST, SIGNATURE, check, regular_files, release_key
from trimtab.registry.signing import sign_folder, verify_release


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring(tmp_path_factory.mktemp("ours") / "keys")


@pytest.fixture(scope="module")
def signed(keys: Keyring, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = packed(tmp_path_factory.mktemp("signed") / "release")
    sign_folder(folder, "digits", keys)
    return folder


@pytest.fixture
def release(signed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed, tmp_path / "release"))


def refused(release: Path, keys: Keyring, named: str, **more: Any) -> None:
    with pytest.raises(RegistryError) as caught:
        verify_release(release, keys=keys, name="digits", **more)
    assert named in str(caught.value), str(caught.value)


def told(call: Callable[[], object]) -> str | None:
    """What a refusal says; None if nothing is refused."""
    try:
        call()
    except RegistryError as error:
        return str(error)
    return None


def test_the_release_that_the_others_are_made_of_is_accepted(release: Path, keys: Keyring) -> None:
    assert (
        verify_release(release, keys=keys, name="digits", key=release_key(release))["candidate"] == "0123456789abcdef"
    )


# 1. Changed after it was signed.

FILES = ["golden.npz", "manifest.json", "model.onnx", "profile.json", "release.json", "spec.json", "sub/weights.bin"]


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_bit_is_refused_by_the_file_s_name(release: Path, keys: Keyring, file: str) -> None:
    content = bytearray((release / file).read_bytes())
    content[len(content) // 2] ^= 1
    (release / file).write_bytes(bytes(content))
    refused(release, keys, f"{file} was changed")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_signature_is_refused(release: Path, keys: Keyring, place: float, bit: int) -> None:
    """Or changes nothing that is read: white space, and the key id that stays empty."""
    path = release / SIGNATURE
    whole = path.read_bytes()
    content = bytearray(whole)
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(bytes(content))
    said = told(lambda: verify_release(release, keys=keys, name="digits"))
    path.write_bytes(whole)
    if said is None:
        before, after = json.loads(whole), json.loads(bytes(content))
        assert before["dsseEnvelope"]["payload"] == after["dsseEnvelope"]["payload"]
        assert before["verificationMaterial"]["publicKey"] == after["verificationMaterial"]["publicKey"]
    else:
        assert SIGNATURE in said


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(release: Path, keys: Keyring, file: str) -> None:
    (release / file).unlink()
    refused(release, keys, f"{file} is missing")


@pytest.mark.parametrize("file", ["loader.py", "sub/more.bin", ".hidden", "sitecustomize.py"])
def test_an_added_file_is_named(release: Path, keys: Keyring, file: str) -> None:
    (release / file).write_text("import os")
    refused(release, keys, f"{file} is not signed")


def test_two_swapped_files_are_named(release: Path, keys: Keyring) -> None:
    one, other = release / "model.onnx", release / "sub" / "weights.bin"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    refused(release, keys, "model.onnx was changed")


def test_a_file_cut_short_or_emptied_is_named(release: Path, keys: Keyring) -> None:
    (release / "sub" / "weights.bin").write_bytes(b"")
    refused(release, keys, "sub/weights.bin was changed")


@pytest.mark.parametrize("target", ["model.onnx", "sub", SIGNATURE, MANIFEST])
def test_a_link_is_refused_even_to_the_same_bytes(release: Path, keys: Keyring, tmp_path: Path, target: str) -> None:
    shutil.move(release / target, tmp_path / "elsewhere")
    (release / target).symlink_to(tmp_path / "elsewhere")
    refused(release, keys, SIGNATURE if target == SIGNATURE else target)


def test_a_special_file_is_refused_and_not_read(release: Path, keys: Keyring) -> None:
    import os

    os.mkfifo(release / "pipe")
    refused(release, keys, "pipe is a link or special file")


# 2. Made to look right by somebody who cannot sign with a trusted key.


def test_a_new_manifest_for_changed_files_is_not_enough(release: Path, keys: Keyring) -> None:
    (release / "model.onnx").write_bytes(b"other")
    refused(release, keys, "was changed after it was signed", key=manifest_again(release))


def test_an_unsigned_release_is_refused_with_what_to_do(release: Path, keys: Keyring) -> None:
    (release / SIGNATURE).unlink()
    refused(release, keys, "is not signed")


def test_a_release_signed_by_somebody_else_is_refused(release: Path, keys: Keyring, tmp_path: Path) -> None:
    sign_folder(release, "digits", Keyring(tmp_path / "theirs"))
    refused(release, keys, "not trusted here")


def test_a_signature_that_claims_our_key_is_refused(release: Path, keys: Keyring, tmp_path: Path) -> None:
    ours = json.loads((release / SIGNATURE).read_text())["verificationMaterial"]
    (release / "model.onnx").write_bytes(b"other")
    manifest_again(release)
    sign_folder(release, "digits", Keyring(tmp_path / "theirs"))
    bundle = json.loads((release / SIGNATURE).read_text())
    (release / SIGNATURE).write_text(json.dumps({**bundle, "verificationMaterial": ours}))
    refused(release, keys, "did not sign this")


def test_a_release_of_another_name_is_refused(keys: Keyring, tmp_path: Path) -> None:
    other = packed(tmp_path / "release", name="tabular")
    sign_folder(other, "tabular", keys)
    refused(other, keys, "of 'tabular', not of 'digits'")


def test_a_signature_of_another_name_over_these_files_is_refused(release: Path, keys: Keyring) -> None:
    sign_folder(release, "tabular", keys)
    refused(release, keys, "of 'tabular', not of 'digits'")


def test_the_whole_of_another_version_is_refused_by_its_key(release: Path, keys: Keyring, tmp_path: Path) -> None:
    other = packed(tmp_path / "other", candidate="fedcba9876543210")
    sign_folder(other, "digits", keys)
    refused(other, keys, "is of release", key=release_key(release))


def test_the_manifest_of_another_version_is_refused(release: Path, keys: Keyring, tmp_path: Path) -> None:
    other = packed(tmp_path / "other", candidate="fedcba9876543210")
    sign_folder(other, "digits", keys)
    for file in (MANIFEST, SIGNATURE):
        shutil.copy(other / file, release / file)
    refused(release, keys, "release.json was changed")


def test_a_release_whose_key_was_revoked_is_refused(release: Path, tmp_path: Path) -> None:
    once = Keyring(tmp_path / "once")
    sign_folder(release, "digits", once)
    verify_release(release, keys=once, name="digits")
    old = once.every()[0].fingerprint
    once.rotate()
    verify_release(release, keys=once, name="digits")
    once.revoke(old)
    refused(release, once, "was revoked")


@pytest.mark.parametrize("content", BAD_SIGNATURES.values(), ids=BAD_SIGNATURES)
def test_a_signature_file_that_is_none_is_refused(release: Path, keys: Keyring, content: bytes) -> None:
    (release / SIGNATURE).write_bytes(content)
    refused(release, keys, SIGNATURE)


# The manifest alone: what a registration looks at before there is a signature.


@pytest.mark.parametrize("file", BAD_NAMES)
def test_a_manifest_name_that_leaves_the_folder_or_hides_is_refused(release: Path, file: str) -> None:
    manifest = json.loads((release / MANIFEST).read_text())
    (release / MANIFEST).write_text(json.dumps({**manifest, file: DIGEST}))
    with pytest.raises(RegistryError, match=r"manifest\.json"):
        check(release)


def test_two_spellings_of_one_name_are_refused(release: Path) -> None:
    manifest = json.loads((release / MANIFEST).read_text())
    both = {unicodedata.normalize(form, "é"): DIGEST for form in ("NFC", "NFD")}
    (release / MANIFEST).write_text(json.dumps({**manifest, **both}))
    with pytest.raises(RegistryError, match=r"manifest\.json"):
        check(release)


@pytest.mark.parametrize("digest", BAD_DIGESTS)
def test_a_digest_that_is_none_is_refused(release: Path, digest: Any) -> None:
    manifest = json.loads((release / MANIFEST).read_text())
    (release / MANIFEST).write_text(json.dumps({**manifest, "model.onnx": digest}))
    with pytest.raises(RegistryError, match=r"'model\.onnx' is not a file with a SHA-256"):
        check(release)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{{"release.json": "{DIGEST}", "release.json": "{DIGEST}"}}', "twice"),
        ('{"release.json": NaN}', "NaN"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": ' * 50_000, "nested too deep"),
        (json.dumps({f"{number}": DIGEST for number in range(10_001)}), "more than 10000"),
        ("{" + " " * strict_json.LIMIT + "}", "has more than"),
        ("﻿{}", "cannot be read"),
    ],
    ids=["twice", "nan", "list", "object", "many", "huge", "mark"],
)
def test_a_manifest_that_two_readers_could_understand_differently_or_not_at_all_is_refused(
    release: Path, text: str, said: str
) -> None:
    (release / MANIFEST).write_text(text)
    with pytest.raises(RegistryError, match=re.escape(said)) as caught:
        check(release)
    assert MANIFEST in str(caught.value)


def test_a_key_twice_in_release_json_is_refused_also_when_signed(release: Path, keys: Keyring) -> None:
    (release / "release.json").write_text('{"name": "digits", "target": "a", "target": "b"}')
    manifest_again(release)
    sign_folder(release, "digits", keys)
    refused(release, keys, "release.json cannot be read: it has the key 'target' twice")


# 3. Signed, and never to be loaded.


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_must_not_be_loaded_is_refused_by_name_even_if_it_is_signed(
    release: Path, keys: Keyring, what: str
) -> None:
    file, content = FORBIDDEN[what]
    (release / file).write_bytes(content())
    manifest_again(release)
    sign_folder(release, "digits", keys)
    refused(release, keys, f"{file} ")
    assert TOUCHED == []


def test_a_hundred_attacks_on_a_signed_release_are_refused_by_name(signed: Path, keys: Keyring, tmp_path: Path) -> None:
    """What `make bench-registry` counts."""
    count, through = accepted(signed, keys, "digits", tmp_path)
    assert through == []
    assert count >= 100
    assert len(FORBIDDEN) >= 30


# What a release does hold passes.


def test_a_torchscript_archive_of_pytorch_s_own_is_accepted(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).eval()
    traced = torch.jit.trace(module, torch.zeros(2, 1, 8, 8))
    torch.jit.save(traced, tmp_path / "traced.pt")
    torch.jit.save(torch.jit.freeze(traced), tmp_path / "frozen.pt")
    refuse_hostile(tmp_path)


def test_weights_that_are_mostly_zero_and_graphs_in_xml_are_no_bombs(tmp_path: Path) -> None:
    weights = np.zeros(1 << 20, np.float32)
    weights[::100] = np.random.default_rng(0).normal(size=weights[::100].size)
    (tmp_path / "weights.bin.gz").write_bytes(gzip.compress(weights.tobytes()))
    (tmp_path / "model.xml.gz").write_bytes(gzip.compress(b'<layer id="1" type="Const"/>\n' * 10_000))
    np.savez_compressed(tmp_path / "rows.npz", a=weights)
    refuse_hostile(tmp_path)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300))
def test_random_weights_are_seldom_taken_for_something_else_and_never_break_the_look(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("random")
    (folder / "weights.bin").write_bytes(content)
    said = told(lambda: refuse_hostile(folder))
    assert said is None or content[:1] in (b"\x80", b"\x1f", b"P", b"\x93", b"c", b"(")
    assert said is None or "weights.bin" in said


def test_quantized_weights_are_not_taken_for_pickles(tmp_path: Path) -> None:
    """Of 3,000 files of random bytes, as INT8 weights are, at most one may begin like a pickle by chance."""
    rng = np.random.default_rng(7)
    blocks = rng.integers(0, 256, size=(3000, 400), dtype=np.uint8)
    assert sum(_is_pickle(io.BytesIO(block.tobytes())) for block in blocks) <= 1


def test_every_file_is_looked_at(release: Path) -> None:
    assert set(regular_files(release)) == {*FILES, SIGNATURE}
