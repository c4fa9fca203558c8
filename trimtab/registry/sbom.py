"""What a release needs to run, as a CycloneDX 1.6 bill of materials: its pinned requirements and what those need.

Read from the metadata of what is installed here, where the release was verified. The same installation gives the same
bytes: no time, and a serial number made from the contents. The `cyclonedx-py` tool would describe the whole
environment, training included, with a time in it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from trimtab.candidate import digest_of


def bill(name: str, key: str, requirements: Sequence[str]) -> bytes:
    """The bill of materials of a release.

    Args:
        name: of the release. key: what tells this release from others of the name, e.g. the candidate's id.
        requirements: pinned, e.g. ["onnxruntime==1.32.0"]; each must be installed here.

    Raises:
        importlib.metadata.PackageNotFoundError: one of them is not.
    """
    needs = _closure(Requirement(text).name for text in requirements)
    top = {"type": "machine-learning-model", "bom-ref": "release", "name": name, "version": key}
    direct = sorted({canonicalize_name(Requirement(text).name) for text in requirements})
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": top},
        "components": [_component(each) for each in sorted(needs)],
        "dependencies": [
            {"ref": "release", "dependsOn": [_purl(each) for each in direct]},
            *({"ref": _purl(each), "dependsOn": [_purl(other) for other in needs[each]]} for each in sorted(needs)),
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, digest_of(body))
    return (json.dumps({**body, "serialNumber": f"urn:uuid:{serial}"}, indent=1, sort_keys=True) + "\n").encode()


def _closure(names: Iterable[str]) -> dict[str, list[str]]:
    """Distribution → what it needs here, followed to the end; extras that nobody asked for are left out."""
    found: dict[str, list[str]] = {}
    waiting: list[str] = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        needs = [Requirement(text) for text in metadata.requires(name) or []]
        # What a marker asks for and is not installed (another platform's wheel) is not part of what ran here.
        wanted = {
            canonicalize_name(need.name) for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})
        }
        found[name] = sorted(each for each in wanted if _installed(each))
        waiting += found[name]
    return found


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _component(name: str) -> dict[str, Any]:
    about = metadata.metadata(name).json
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _purl(name),
        "name": name,
        "version": metadata.version(name),
        "purl": _purl(name),
    }
    license_name = str(about.get("license_expression") or about.get("license") or "")
    if license_name and "\n" not in license_name and len(license_name) < 100:  # some put the whole text there
        component["licenses"] = [{"license": {"name": license_name}}]
    return component


def _purl(name: str) -> str:
    return f"pkg:pypi/{name}@{metadata.version(name)}".replace("+", "%2B")
