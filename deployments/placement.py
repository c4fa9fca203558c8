"""What `mlflow deployments -t trimtab` manages: the scoring services of a state directory's supervisor, and no others.

A deployment is a scoring service with a name. One that has its release's name is that release's own service, the one
`trimtab up RECIPE` starts: it follows the champion, keeps the journal that is watched, and is updated by promoting. One
of another name serves a version or an alias beside it, with a journal of its own that nobody watches, and is updated
by being started again on something else.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from deployments.stack import ServiceStatus, status, up, withdraw
from deployments.stack.record import read_ports
from deployments.stack.services import scoring_name
from deployments.stock import status_file
from trimtab.client import ScoringError
from trimtab.errors import Conflict, RegistryError, StateError, TrimtabError
from trimtab.own_service import own_client
from trimtab.registry.follow import check_version
from trimtab.registry.names import release_name
from trimtab.registry.reference import CHAMPION, Reference, resolve
from trimtab.settings import Settings

PATIENCE_S = 60.0
POLL_S = 0.2
ASK_S = 5.0


class Taken(Conflict):
    """A deployment has the name already."""


class Absent(RegistryError):
    """There is no deployment of the name."""


@dataclass(frozen=True)
class Deployment:
    """A scoring service as it is now.

    Attributes:
        release: what it serves, e.g. "digits@champion" or "digits/3". version: what answers; None where nothing does.
        backend: "trimtab", or "mlflow" for the stock server. state: the supervisor's word, or DOWN.
        trouble: why it does not serve what it should, or "".
    """

    name: str
    release: str
    version: str | None
    backend: str
    state: str
    ready: bool
    url: str
    log: str
    trouble: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return asdict(self)


def every(settings: Settings) -> list[Deployment]:
    """The deployments of the state directory, by name; those of before the last `down` among them."""
    ports = read_ports(settings)
    if ports is None:
        return []
    found = {service.name: service for service in status(settings)}
    return [
        _described(settings, name, ports.pinned.get(name), name in ports.stock, found[scoring_name(name)])
        for name in sorted(ports.scoring)
    ]


def one(settings: Settings, name: str) -> Deployment:
    """A deployment by its name.

    Raises:
        Absent: there is none.
    """
    found = [deployment for deployment in every(settings) if deployment.name == name]
    if not found:
        raise Absent("there is no such deployment", where=name, fix="mlflow deployments list -t trimtab")
    return found[0]


def create(settings: Settings, name: str, release: Reference) -> Deployment:
    """Start a scoring service, and the servers that it needs; returns when it answers.

    Raises:
        Taken: a deployment has the name. Conflict: it would be a release's own service on another than its champion.
        RegistryError: there is no such release. StateError: a server does not start.
    """
    release_name(name)
    ports = read_ports(settings)
    if ports is not None and name in ports.scoring:
        raise Taken("is deployed already", where=name, fix="mlflow deployments update, or choose another name")
    here = up(settings, wait_for_all=False).settings  # the registry is asked before anything is placed
    version = _version_of(here, release)
    if name == release.name and not _is_champion(here, release, version):
        raise Conflict(
            f"a deployment called like its release follows the champion, which version {version} is not",
            where=name,
            fix=f"deploy models:/{name}@champion and update it to the version, or give the deployment another name",
        )
    try:
        _place(here, name, release)
        return _answering(settings, name, version)
    except TrimtabError:
        withdraw(settings, name)
        raise


def update(settings: Settings, name: str, release: Reference, *, who: str, why: str) -> Deployment:
    """Let a deployment serve something else; returns when it answers with that.

    A release's own service is updated by promoting the version, with who and why in the ledger; any other is started
    again, and does not answer for some seconds. If it then does not answer with that, it gets back what it had.

    Raises:
        Absent: no such deployment. RegistryError: no such release, or a version that may not be promoted.
        Conflict: another release than the one it serves.
    """
    before = Reference.parse(one(settings, name).release)
    if release.name != before.name:
        raise Conflict(
            f"serves {before}; its journal holds rows of that release",
            where=name,
            fix=f"delete it first, or create a deployment of {release.name}",
        )
    here = up(settings, wait_for_all=False).settings
    version = _version_of(here, release)
    if name == release.name:
        from trimtab.registry.connection import Registry
        from trimtab.registry.promote import promote

        promote(Registry.from_settings(here), name, version, who=who, why=why)
        return _answering(settings, name, version)
    try:
        _place(here, name, release)
        return _answering(settings, name, version)
    except TrimtabError:
        _place(here, name, before)
        raise


def delete(settings: Settings, name: str) -> bool:
    """Stop a deployment's service and forget it; False if there was none. Its journal and the registry stay."""
    return withdraw(settings, name)


def _place(settings: Settings, name: str, release: Reference) -> None:
    up(settings, release=name, pin=None if name == release.name else str(release), wait_for_all=False)


def _version_of(settings: Settings, release: Reference) -> int:
    version = resolve(settings.tracking_uri(), release)
    check_version(settings.tracking_uri(), release.name, version)
    return version


def _is_champion(settings: Settings, release: Reference, version: int) -> bool:
    return release.alias == CHAMPION or version == resolve(settings.tracking_uri(), Reference(release.name))


def _answering(settings: Settings, name: str, version: int) -> Deployment:
    """Wait until a service answers with a version."""
    settings = Settings.load(settings.home)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = one(settings, name)
        if found.ready and found.version == str(version):
            return found
        time.sleep(POLL_S)
    raise StateError(
        f"answers with version {found.version}, not {version}, after {PATIENCE_S:.0f} s",
        where=f"{name} at {found.url}",
        fix=found.trouble or f"read its log: {found.log}",
    )


def _described(settings: Settings, name: str, pin: str | None, is_stock: bool, service: ServiceStatus) -> Deployment:
    version, trouble = None, ""
    if service.ready:
        version, trouble = (_stock_version(settings, name), "") if is_stock else _asked(settings, name)
    return Deployment(
        name,
        pin or str(Reference(name)),
        version,
        "mlflow" if is_stock else "trimtab",
        service.state,
        service.ready,
        service.url,
        str(service.log),
        trouble,
    )


def _asked(settings: Settings, name: str) -> tuple[str | None, str]:
    """The version that a service says it answers with, and its trouble."""
    try:
        with own_client(settings, name, ASK_S, retries=0) as service:
            served = service.version()
    except ScoringError as error:
        return None, str(error)
    refused, registry = served.facts.get("refused"), served.facts.get("registry_error")
    trouble = f"version {refused['version']} was refused: {refused['reason']}" if refused else registry
    return served.version, str(trouble or "")


def _stock_version(settings: Settings, name: str) -> str | None:
    try:
        return str(json.loads(status_file(settings, name).read_text())["version"])
    except (OSError, ValueError, KeyError):
        return None
