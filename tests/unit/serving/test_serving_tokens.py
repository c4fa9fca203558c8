"""Tokens: shown once, kept as hashes, changed while a service runs, never for others to read."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest

from trimtab.errors import StateError
from trimtab.serving.tokens import TokenFile, Tokens, digest
from trimtab.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile.of(Settings(home=tmp_path))


def test_a_token_is_256_random_bits_and_only_its_hash_is_kept(file: TokenFile) -> None:
    secret, token = file.add("shop", ["labels", "score"])
    assert secret.startswith("tt_")
    assert len(secret) == len("tt_") + 43  # 32 bytes in base64 without padding
    assert secret != file.add("shop", ["score"])[0]
    kept = file.path.read_text()
    assert secret not in kept
    assert secret.removeprefix("tt_") not in kept
    assert (token.sha256, token.scopes) == (digest(secret), ("score", "labels"))
    assert file.read()[0] == token
    assert "sha256" not in token.shown()


def test_the_file_is_its_owners_alone_and_one_that_others_can_read_is_refused(file: TokenFile) -> None:
    file.add("shop", ["score"])
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    file.path.chmod(0o640)
    with pytest.raises(StateError, match="others can read") as caught:
        file.read()
    assert "chmod 600" in caught.value.fix


@pytest.mark.parametrize(("name", "scopes"), [("", ["score"]), (" ", ["score"]), ("x" * 81, ["score"]),
                                              ("a\nb", ["score"]), ("a", []), ("a", ["admin"])])  # fmt: skip
def test_a_token_without_a_name_or_with_an_unknown_scope_is_not_made(file: TokenFile, name, scopes) -> None:
    with pytest.raises(StateError, match="the token's"):
        file.add(name, scopes)
    assert not file.path.exists()


@pytest.mark.parametrize(
    "damaged",
    [b"", b"[]", b'{"tokens": 1}', b'{"tokens": [{}]}', b'{"tokens": ["x"]}',
     b'{"tokens": [{"id": "a", "name": "b", "scopes": ["root"], "sha256": "00", "made": "m"}]}',
     b'{"tokens": [{"id": "a", "name": "b", "scopes": ["read"], "sha256": "00", "made": "m"}]}'],
)  # fmt: skip
def test_a_damaged_file_is_told_and_not_taken_for_an_empty_one(file: TokenFile, damaged: bytes) -> None:
    file.path.write_bytes(damaged)
    file.path.chmod(0o600)
    with pytest.raises(StateError, match="is not a list of tokens"):
        file.read()


def test_a_revoked_token_is_gone_and_an_unknown_one_is_told(file: TokenFile) -> None:
    _, first = file.add("one", ["score"])
    _, second = file.add("two", ["read"])
    assert file.revoke(first.id) == first
    assert file.read() == [second]
    with pytest.raises(StateError, match="no token") as caught:
        file.revoke(first.id)
    assert second.id in caught.value.fix


def test_the_presented_token_is_found_among_many_and_nothing_else_is(file: TokenFile) -> None:
    secrets = [file.add(f"t{index}", ["score"])[0] for index in range(5)]
    tokens = Tokens(file)
    assert [tokens.find(secret).name for secret in secrets] == [f"t{index}" for index in range(5)]
    for wrong in ("", secrets[0][:-1], secrets[0] + "x", secrets[0].upper(), digest(secrets[0]), "tt_é"):
        assert tokens.find(wrong) is None


def test_every_kept_hash_is_compared_whichever_fits(file: TokenFile, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = [file.add(f"t{index}", ["score"])[0] for index in range(4)]
    tokens, compared = Tokens(file), []
    real = __import__("hmac").compare_digest
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: (compared.append(a), real(a, b))[1])
    for presented in (secrets[0], secrets[3], "wrong"):
        compared.clear()
        tokens.find(presented)
        assert len(compared) == 4


def test_a_running_service_takes_a_new_token_and_refuses_a_revoked_one_without_a_restart(file: TokenFile) -> None:
    old, entry = file.add("old", ["score"])
    tokens = Tokens(file, look_s=0)
    new, _ = file.add("new", ["score"])
    assert tokens.find(new) is not None
    file.revoke(entry.id)
    assert tokens.find(old) is None
    file.path.unlink()
    assert tokens.find(new) is None


def test_the_file_is_looked_at_once_a_second_at_most(file: TokenFile, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = file.add("one", ["score"])
    tokens, now = Tokens(file), time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)
    looked: list[Path] = []
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **more: (looked.append(path), real(path, **more))[1])
    for moment in (0.5, 0.9, 1.5, 1.6, 2.4):
        now_at = now + moment
        monkeypatch.setattr("time.monotonic", lambda at=now_at: at)
        tokens.find(first)
    assert len([path for path in looked if path == file.path]) == 1


def test_a_file_that_breaks_while_the_service_runs_changes_nothing_and_is_logged_once(file: TokenFile, caplog) -> None:
    secret, _ = file.add("one", ["score"])
    tokens = Tokens(file, look_s=0)
    whole = file.path.read_bytes()
    file.path.write_bytes(b"{")
    for _ in range(3):
        assert tokens.find(secret) is not None
    assert caplog.text.count("the tokens stay as they were") == 1
    file.path.write_bytes(json.dumps({"tokens": []}).encode())
    assert tokens.find(secret) is None
    file.path.write_bytes(whole)
    os.utime(file.path, ns=(1, 1))
    assert tokens.find(secret) is not None


def test_a_broken_file_is_told_when_a_service_starts(file: TokenFile) -> None:
    file.path.write_bytes(b"{")
    file.path.chmod(0o600)
    with pytest.raises(StateError):
        Tokens(file)
