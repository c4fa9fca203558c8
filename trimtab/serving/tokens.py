"""Tokens of the scoring service: made here, kept as hashes, read again when their file changes.

    <home>/serving-tokens.json        0600: {"tokens": [{"id", "name", "scopes", "sha256", "made"}, ...]}

A token is `tt_` and 256 random bits. That is why a plain SHA-256 keeps it: a salt and a slow hash (scrypt, argon2) make
guesses of what people choose expensive, nobody guesses 256 random bits, and a slow hash a request would be a way to
stop the service. Presented tokens are hashed and compared with every kept hash in constant time, so neither the bytes
of a hash nor how many there are before it shows in the time an answer takes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from trimtab.errors import StateError
from trimtab.settings import Settings
from trimtab.store import os_lock, write_atomic

Scope = Literal["score", "labels", "read"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "tt_"
BYTES = 32  # of randomness: 256 bits
LOOK_S = 1.0  # the file is looked at this often at most
_ID_DIGITS = 8
_LONGEST_NAME = 80
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Token:
    """A token as it is kept.

    Attributes:
        id: what it is listed and revoked by; the first digits of its hash.
        name: whose it is, in the words of who made it.
        scopes: what it may be used for.
        sha256: hex digest of the token.
        made: UTC, ISO 8601.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    made: str

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return {**asdict(self), "scopes": list(self.scopes)}

    def shown(self) -> dict[str, Any]:
        """`to_json` without the hash, for people and scripts."""
        return {key: value for key, value in self.to_json().items() if key != "sha256"}


def digest(token: str) -> str:
    """SHA-256 (hex) of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class TokenFile:
    """The file of tokens of a state directory; safe to change from many processes.

    Args:
        path: need not exist; then there is no token.
        lock: held while it is changed.
    """

    path: Path
    lock: Path

    @classmethod
    def of(cls, settings: Settings) -> TokenFile:
        """That of a state directory; every scoring service of it takes the same tokens."""
        return cls(settings.home / "serving-tokens.json", settings.locks / "serving-tokens.lock")

    def read(self) -> list[Token]:
        """Every token, oldest first.

        Raises:
            StateError: the file is not readable, not in its form, or others than its owner may read or change it.
        """
        try:
            with self.path.open("rb") as stream:
                mode = os.fstat(stream.fileno()).st_mode
                data = stream.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StateError(f"cannot be read ({error.strerror})", where=str(self.path)) from None
        if mode & 0o077:
            raise StateError("others can read or change it", where=str(self.path), fix=f"chmod 600 {self.path}")
        try:
            return [_token(entry) for entry in json.loads(data)["tokens"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StateError(
                "is not a list of tokens",
                where=str(self.path),
                fix="restore it, or remove it and make tokens anew with `trimtab tokens add`",
            ) from None

    def add(self, name: str, scopes: Iterable[str]) -> tuple[str, Token]:
        """Make a token. The first value is the token itself: it is kept nowhere, and cannot be shown again.

        Raises:
            StateError: the name is empty, long or not printable; a scope is unknown; the file cannot be used.
        """
        chosen = _scopes(scopes)
        if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
            raise StateError(f"must be 1 to {_LONGEST_NAME} printable characters", where="the token's name")
        secret = PREFIX + secrets.token_urlsafe(BYTES)
        hashed = digest(secret)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        token = Token(hashed[:_ID_DIGITS], name.strip(), chosen, hashed, made)
        with os_lock(self.lock, wait=True, what="the tokens"):
            self._write([*self.read(), token])
        return secret, token

    def revoke(self, identity: str) -> Token:
        """Refuse a token from now on (running services: within a second).

        Raises:
            StateError: no token has this id.
        """
        with os_lock(self.lock, wait=True, what="the tokens"):
            tokens = self.read()
            found = [token for token in tokens if token.id == identity]
            if not found:
                known = ", ".join(token.id for token in tokens) or "none"
                raise StateError(f"no token {identity!r}", where=str(self.path), fix=f"there are: {known}")
            self._write([token for token in tokens if token.id != identity])
        return found[0]

    def _write(self, tokens: Sequence[Token]) -> None:
        body = json.dumps({"tokens": [token.to_json() for token in tokens]}, indent=1)
        try:
            write_atomic(self.path, body.encode())  # through mkstemp: 0600 from its first byte on
        except OSError as error:
            raise StateError(f"cannot be written ({error.strerror})", where=str(self.path)) from None


class Tokens:
    """The tokens a running service takes. Not thread-safe: the event loop's own.

    A file that becomes unreadable or damaged while the service runs changes nothing and is logged; one that is removed
    means that no token is taken any more.

    Raises:
        StateError: the file cannot be used at the start.
    """

    def __init__(self, file: TokenFile, look_s: float = LOOK_S) -> None:
        self._file, self._look_s = file, look_s
        self._looked = time.monotonic()
        self._stamp = _stamp(file.path)
        self._known = file.read()
        self._complained = False

    def __len__(self) -> int:
        return len(self._known)

    def find(self, presented: str) -> Token | None:
        """The token that was presented, or None."""
        self._look()
        hashed = digest(presented)
        found = None
        for token in self._known:  # all of them, whichever fits
            if hmac.compare_digest(token.sha256, hashed):
                found = token
        return found

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < self._look_s:
            return
        self._looked = now
        stamp = _stamp(self._file.path)
        if stamp == self._stamp:
            return
        try:
            self._known = self._file.read()
        except StateError as error:
            if not self._complained:
                _logger.error("the tokens stay as they were: %s", error)
            self._complained = True
            return
        self._stamp, self._complained = stamp, False
        _logger.warning("%d tokens are taken from now on", len(self._known))


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is replaced or written; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode


def _token(entry: dict[str, Any]) -> Token:
    token = Token(entry["id"], entry["name"], tuple(entry["scopes"]), entry["sha256"], entry["made"])
    texts = (token.id, token.name, token.sha256, token.made)
    if not all(isinstance(text, str) for text in texts) or not set(token.scopes) <= set(SCOPES):
        raise ValueError
    if len(bytes.fromhex(token.sha256)) != hashlib.sha256().digest_size or not token.sha256.isascii():
        raise ValueError
    return token


def _scopes(given: Iterable[str]) -> tuple[Scope, ...]:
    wanted = set(given)
    unknown = sorted(wanted - set(SCOPES))
    if unknown or not wanted:
        what = f"{unknown[0]!r} is no scope" if unknown else "a token needs a scope"
        raise StateError(what, where="the token's scopes", fix=f"one or more of {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in wanted)
