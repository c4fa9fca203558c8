"""Keys are made once, read by their owner only, rotated without losing trust, and revoked for good."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from trimtab.errors import RegistryError, StateError
from trimtab.registry.keys import Keyring, fingerprint


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys")


def signs(keys: Keyring) -> str:
    return fingerprint(keys.signer().public_key())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_use_makes_a_key_that_only_its_owner_can_read_and_that_is_trusted(keys: Keyring) -> None:
    before = os.umask(0)
    try:
        name = signs(keys)
    finally:
        os.umask(before)
    assert mode(keys.folder) == 0o700
    assert mode(keys.folder / "signing.pem") == 0o600
    assert signs(keys) == name
    assert list(keys.trusted()) == [name]
    assert [(key.fingerprint, key.state) for key in keys.every()] == [(name, "signs")]


def _first_use(folder: str) -> str:
    return signs(Keyring(Path(folder)))


def test_processes_that_ask_first_at_once_get_the_same_key(keys: Keyring) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        made = pool.map(_first_use, [str(keys.folder)] * 4)
    assert len(set(made)) == 1
    assert list(keys.trusted()) == made[:1]


def test_after_a_rotation_the_new_key_signs_and_the_old_one_is_still_trusted(keys: Keyring) -> None:
    old = signs(keys)
    new = keys.rotate()
    assert new != old
    assert signs(keys) == new
    assert set(keys.trusted()) == {old, new}
    assert [key.state for key in keys.every()] == ["signs", "trusted"]


def test_a_revoked_key_is_not_trusted_even_if_its_file_is_put_back(keys: Keyring) -> None:
    old = signs(keys)
    pem = (keys.folder / "trusted" / f"{old}.pem").read_bytes()
    keys.rotate()
    assert keys.revoke(old[:8]) == old
    assert old not in keys.trusted()
    (keys.folder / "trusted" / "again.pem").write_bytes(pem)
    assert old not in keys.trusted()
    with pytest.raises(StateError, match="was revoked"):
        keys.trust(pem, "again.pem")


def test_the_key_that_signs_is_not_revoked_before_a_rotation(keys: Keyring) -> None:
    name = signs(keys)
    with pytest.raises(RegistryError, match="signs now"):
        keys.revoke(name)
    assert name in keys.trusted()


@pytest.mark.parametrize("beginning", ["", "1234567", "x" * 8])
def test_a_revocation_names_one_key_or_none(keys: Keyring, beginning: str) -> None:
    keys.signer()
    with pytest.raises(RegistryError, match="trusted key"):
        keys.revoke(beginning)


def test_a_private_key_that_others_can_read_is_refused_with_what_to_do(keys: Keyring) -> None:
    keys.signer()
    (keys.folder / "signing.pem").chmod(0o640)
    with pytest.raises(StateError) as caught:
        keys.signer()
    assert "chmod 600" in caught.value.fix


def test_a_broken_private_key_is_refused_without_quoting_it(keys: Keyring) -> None:
    keys.signer()
    path = keys.folder / "signing.pem"
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    path.chmod(0o600)
    with pytest.raises(StateError) as caught:
        keys.signer()
    assert "c2VjcmV0" not in str(caught.value)


def test_only_a_public_key_of_the_right_kind_can_be_trusted(keys: Keyring, tmp_path: Path) -> None:
    other = Keyring(tmp_path / "other")
    name = signs(other)
    public = (other.folder / "trusted" / f"{name}.pem").read_bytes()
    assert keys.trust(public, "other.pem") == name
    assert name in keys.trusted()
    for strange in (b"", b"no key", (other.folder / "signing.pem").read_bytes()):
        with pytest.raises(StateError, match="not a public ECDSA key"):
            keys.trust(strange, "strange.pem")


def test_nothing_of_the_private_key_is_in_what_is_listed(keys: Keyring) -> None:
    keys.signer()
    said = repr(keys) + repr(keys.every())
    secret = (keys.folder / "signing.pem").read_text().splitlines()[1]
    assert secret not in said
