"""Signatures of releases: every file of a folder with its digest, signed, in one small file beside them.

The file is an OpenSSF Model Signing v1 signature (a Sigstore bundle with an in-toto statement in a DSSE envelope), so
that anybody can check a downloaded folder with the model-signing package and the public key, without this package:

    model_signing verify key FOLDER --signature FOLDER/signature.json --public-key KEY.pem

    payload    {"subject": [{"name": "digits", …}], "predicate": {"resources": [{"name": "model.onnx", "digest": …}]}}
    signature  ECDSA on P-256 with SHA-256 of "DSSEv1 <length> <type> <length> <payload>"
    hint       fingerprint of the key, by which it is looked up among the trusted ones

docs/decisions/015 says why this is written here. No mlflow import: the scoring service verifies with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.errors import RegistryError
from trimtab.registry import strict_json
from trimtab.registry.hostile import refuse_hostile
from trimtab.registry.keys import Keyring, fingerprint
from trimtab.registry.package import SIGNATURE, check, regular_files, unfitting_paths
from trimtab.store import file_digest, write_atomic

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
UNSIGNED_FIX = "sign a version that was registered before releases were signed: `trimtab keys sign NAME VERSION`"


@dataclass(frozen=True)
class Signed:
    """What a signature vouches for: the release's name, and path → SHA-256 of every file. `signer`: fingerprint."""

    signer: str
    name: str
    files: Mapping[str, str]


def sign_folder(folder: Path, name: str, keys: Keyring) -> str:
    """Sign every file of a folder for a release name; writes (or replaces) its signature, gives the fingerprint."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    private = keys.signer()
    signer = fingerprint(private.public_key())
    payload = json.dumps(_statement(name, _digests(folder)), sort_keys=True).encode()
    signature = private.sign(_enveloped(payload), ECDSA(SHA256()))
    bundle = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": signer}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    write_atomic(folder / SIGNATURE, (json.dumps(bundle, indent=1) + "\n").encode())
    return signer


def read_signature(content: bytes, keys: Keyring, where: str) -> Signed:
    """What a signature says, after checking that a trusted key made it.

    Raises:
        RegistryError: it cannot be read, its key is not trusted or was revoked, or it is wrong.
    """
    try:
        bundle = strict_json.parse(content)
        signer = bundle["verificationMaterial"]["publicKey"]["hint"]
        envelope = bundle["dsseEnvelope"]
        (entry,) = envelope["signatures"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(entry["sig"], validate=True)
        known = bundle["mediaType"] == BUNDLE and envelope["payloadType"] == PAYLOAD and isinstance(signer, str)
    except (strict_json.NotStrict, binascii.Error, KeyError, TypeError, ValueError) as error:
        raise _refused(where, f"cannot be read: {type(error).__name__}: {error}") from None
    if not known:
        raise _refused(where, "is of another kind than trimtab makes")
    _verify(signer, signature, payload, keys, where)
    return _said(signer, payload, where)


def verify_folder(folder: Path, keys: Keyring, name: str) -> Signed:
    """See that a trusted key signed exactly these files, for this release name.

    Raises:
        RegistryError: names the file that is missing, added or changed; or says what is wrong with the signature.
    """
    path = folder / SIGNATURE
    if path.is_symlink() or not path.is_file():
        raise RegistryError(f"has no {SIGNATURE}: it is not signed", where=str(folder), fix=UNSIGNED_FIX)
    if path.stat().st_size > strict_json.LIMIT:
        raise _refused(str(folder), f"has more than {strict_json.LIMIT} bytes")
    signed = read_signature(path.read_bytes(), keys, str(folder))
    if signed.name != name:
        raise _refused(str(folder), f"is of a release of {signed.name!r}, not of {name!r}")
    found = _digests(folder)
    for file in sorted({*found, *signed.files}):
        if found.get(file) != signed.files.get(file):
            how = "missing" if file not in found else "not signed" if file not in signed.files else "changed"
            raise RegistryError(
                f"{file} {'was' if how == 'changed' else 'is'} {how}{' after it was signed' * (how == 'changed')}",
                where=str(folder),
                fix="download the release again; if that does not help, release it again",
            )
    return signed


def verify_release(folder: Path, *, keys: Keyring, name: str, key: str | None = None) -> dict[str, Any]:
    """A release folder before anything of it is loaded: signed by a trusted key, whole, and without what may not load.

    Args:
        name: the release it must be of. key: the release key it must have.

    Returns:
        release.json.

    Raises:
        RegistryError: names the file, or what is wrong with signature or manifest.
    """
    verify_folder(folder, keys, name)
    release = check(folder, name=name, key=key)
    refuse_hostile(folder)
    return release


def _verify(signer: str, signature: bytes, payload: bytes, keys: Keyring, where: str) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    public = keys.trusted().get(signer)
    if public is None:
        revoked = any(key.fingerprint == signer for key in keys.revoked())
        raise _refused(
            where,
            f"is by key {signer[:12]!r}, which {'was revoked' if revoked else 'is not trusted here'}",
            "sign the version again: `trimtab keys sign NAME VERSION`"
            if revoked
            else f"if the key is yours: `trimtab keys trust FILE` with its public key; {UNSIGNED_FIX}",
        )
    try:
        public.verify(signature, _enveloped(payload), ECDSA(SHA256()))
    except InvalidSignature:
        raise _refused(where, f"is wrong: key {signer[:12]} did not sign this") from None


def _said(signer: str, payload: bytes, where: str) -> Signed:
    try:
        statement = strict_json.parse(payload)
        (subject,) = statement["subject"]
        resources = statement["predicate"]["resources"]
        files = {entry["name"]: entry["digest"] for entry in resources if entry["algorithm"] == "sha256"}
        whole = statement["predicateType"] == PREDICATE and len(files) == len(resources)
    except (strict_json.NotStrict, KeyError, TypeError, ValueError) as error:
        raise _refused(where, f"cannot be read: {type(error).__name__}: {error}") from None
    if not whole or unfitting_paths(files):
        raise _refused(where, "does not name plain files, each once, by SHA-256")
    return Signed(signer, str(subject["name"]), files)


def _statement(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    root = hashlib.sha256(b"".join(bytes.fromhex(files[file]) for file in sorted(files))).hexdigest()
    resources = [{"name": file, "algorithm": "sha256", "digest": files[file]} for file in sorted(files)]
    how = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [SIGNATURE]}
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE,
        "predicate": {"serialization": how, "resources": resources},
    }


def _digests(folder: Path) -> dict[str, str]:
    return {file: file_digest(path) for file, path in regular_files(folder).items() if file != SIGNATURE}


def _enveloped(payload: bytes) -> bytes:
    """Pre-authentication encoding of DSSE v1: what is signed says of what type and length it is."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def _refused(where: str, what: str, fix: str = "") -> RegistryError:
    return RegistryError(f"{SIGNATURE} {what}", where=where, fix=fix or "download the release again")
