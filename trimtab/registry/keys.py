"""Keys that sign releases: the private one that signs now, and public ones that are trusted, in the state directory.

    <home>/keys/                      0700
        signing.pem                   private, 0600: ECDSA on P-256, made on first use
        trusted/<fingerprint>.pem     public: signatures of these are accepted
        revoked/<fingerprint>.pem     public: signatures of these are refused, also if it is put back as trusted

A fingerprint is the SHA-256 (hex) of the public key's PEM, as the OpenSSF Model Signing format hints at keys with it.
A public key is trusted before the private one exists, so a signature can never be made that nobody accepts.
No mlflow import: the scoring service reads this too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trimtab.errors import RegistryError, StateError
from trimtab.store import os_lock, write_atomic

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

SHORTEST = 8  # digits of a fingerprint that name a key
State = Literal["signs", "trusted", "revoked"]


@dataclass(frozen=True)
class Key:
    """A public key as it is listed: "signs" (and is trusted), "trusted", or "revoked"."""

    fingerprint: str
    state: State
    path: Path

    def to_json(self) -> dict[str, str]:
        """Plain dict, JSON-safe."""
        return {"fingerprint": self.fingerprint, "state": self.state, "path": str(self.path)}


@dataclass(frozen=True)
class Keyring:
    """The keys below a folder (`Settings.signing_keys`); safe to use from many processes."""

    folder: Path

    def signer(self) -> EllipticCurvePrivateKey:
        """The key that signs now; made if there is none yet, once, whoever asks first.

        Raises:
            StateError: it cannot be read or written, or others than its owner can read it.
        """
        if not self._private.exists():
            with self._lock():
                if not self._private.exists():
                    self._make()
        return self._load()

    def trusted(self) -> dict[str, EllipticCurvePublicKey]:
        """Fingerprint → public key of what is trusted and not revoked.

        Raises:
            StateError: a file among the trusted keys is no public key of this kind.
        """
        revoked = set(self._fingerprints("revoked"))
        found = {}
        for path in self._files("trusted"):
            key = _public(path.read_bytes(), str(path))
            if (name := fingerprint(key)) not in revoked:
                found[name] = key
        return found

    def revoked(self) -> list[Key]:
        """What was revoked."""
        return [Key(name, "revoked", path) for name, path in self._fingerprints("revoked").items()]

    def every(self) -> list[Key]:
        """Every public key: what signs first, then trusted, then revoked ones."""
        signs = fingerprint(self._load().public_key()) if self._private.exists() else None
        revoked = self._fingerprints("revoked")
        trusted = {name: path for name, path in self._fingerprints("trusted").items() if name not in revoked}
        keys = [Key(name, "signs" if name == signs else "trusted", path) for name, path in trusted.items()]
        return sorted(
            [*keys, *self.revoked()],
            key=lambda key: (("signs", "trusted", "revoked").index(key.state), key.fingerprint),
        )

    def rotate(self) -> str:
        """Make a new key sign; the old public key stays trusted. Its fingerprint is returned."""
        with self._lock():
            return self._make()

    def trust(self, pem: bytes, where: str) -> str:
        """Accept signatures of a public key (PEM) from elsewhere, e.g. of the machine that releases.

        Raises:
            StateError: it is not a public ECDSA key on P-256, or it was revoked.
        """
        key = _public(pem, where)
        name = fingerprint(key)
        with self._lock():
            if name in self._fingerprints("revoked"):
                raise StateError(f"key {name[:12]} was revoked", where=where, fix="sign with another key")
            write_atomic(self.folder / "trusted" / f"{name}.pem", _pem(key))
        return name

    def revoke(self, beginning: str) -> str:
        """Refuse from now on what a key signed; the whole fingerprint is returned. It cannot be undone.

        Raises:
            RegistryError: no such key, more than one, or it is the one that signs.
        """
        with self._lock():
            name = self._named(beginning)
            if self._private.exists() and fingerprint(self._load().public_key()) == name:
                raise RegistryError(
                    f"key {name[:12]} signs now", where=str(self.folder), fix="`trimtab keys rotate` first, then revoke"
                )
            path = self._fingerprints("trusted")[name]
            write_atomic(self.folder / "revoked" / f"{name}.pem", path.read_bytes())
            path.unlink()  # after the revocation is on disk: between the two it is revoked already
        return name

    @property
    def _private(self) -> Path:
        return self.folder / "signing.pem"

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StateError(f"cannot be made: {error.strerror}", where=str(self.folder)) from None
        with os_lock(self.folder / ".lock", wait=True, what="the keys"):
            yield

    def _make(self) -> str:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        private = ec.generate_private_key(ec.SECP256R1())
        name = fingerprint(private.public_key())
        write_atomic(self.folder / "trusted" / f"{name}.pem", _pem(private.public_key()))
        # write_atomic writes through mkstemp: the file is 0600 from its first byte on, whatever the umask.
        write_atomic(self._private, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return name

    def _load(self) -> EllipticCurvePrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            if os.stat(self._private).st_mode & 0o077:
                raise StateError("others can read it", where=str(self._private), fix=f"chmod 600 {self._private}")
            key = load_pem_private_key(self._private.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:  # the message of a parser could quote the file
            raise StateError(
                f"cannot be read ({type(error).__name__})",
                where=str(self._private),
                fix="restore it, or move it away: a new one is made, and the old public key stays trusted",
            ) from None
        if not isinstance(key, EllipticCurvePrivateKey):
            raise StateError("is not an ECDSA key", where=str(self._private), fix="move it away: a new one is made")
        return key

    def _files(self, state: str) -> list[Path]:
        return sorted((self.folder / state).glob("*.pem"))

    def _fingerprints(self, state: str) -> dict[str, Path]:
        return {fingerprint(_public(path.read_bytes(), str(path))): path for path in self._files(state)}

    def _named(self, beginning: str) -> str:
        found = [name for name in self._fingerprints("trusted") if name.startswith(beginning)]
        if len(beginning) < SHORTEST or len(found) != 1:
            what = f"{beginning!r} names {len(found)} trusted keys" if found else f"no trusted key {beginning!r}"
            raise RegistryError(
                what, where=str(self.folder), fix=f"give at least {SHORTEST} digits of one in `trimtab keys list`"
            )
        return found[0]


def fingerprint(key: EllipticCurvePublicKey) -> str:
    """SHA-256 (hex) of the public key's PEM."""
    return hashlib.sha256(_pem(key)).hexdigest()


def _pem(key: EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _public(pem: bytes, where: str) -> EllipticCurvePublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise StateError("is not a public ECDSA key on P-256 in PEM", where=where, fix="remove it, or give its .pem")
    return key
