"""Trying a version beside the champion: the alias `challenger`, checked like a promotion and recorded.

    lock → settle what an earlier call left → may this version serve? → ledger "challenging" → alias → "challenged"

The scoring service follows the alias; how the version is tried is in its own release (`serving.canary`, `shadow`).
"""

from __future__ import annotations

from trimtab.errors import RegistryError
from trimtab.registry import evidence, versions
from trimtab.registry.challenges import Challenge, read_challenges
from trimtab.registry.connection import Registry, mlflow_errors
from trimtab.registry.moves import move
from trimtab.registry.names import release_name
from trimtab.registry.promotions import read_log
from trimtab.registry.reconcile import settle
from trimtab.serving.trial import Trial


def challenge(registry: Registry, name: str, version: int, *, who: str, why: str) -> Challenge:
    """Try a version. Asking for what is tried already changes nothing and gives the change that made it so.

    Raises:
        RegistryError: nothing serves that it could challenge, it serves itself, it must not serve, or MLflow refused.
        Conflict: another machine changed the challenger at the same moment; nothing was changed.
    """
    with mlflow_errors(f"challenge {name} {version}"), registry.lock("promote", release_name(name)):
        settle(registry, name)
        champion, log = read_log(registry.ledger, name).champion, read_challenges(registry.ledger, name)
        if log.last is not None and log.version == version:
            return log.last
        if champion is None:
            raise RegistryError("has no champion to challenge", where=name, fix="promote the version instead")
        if champion == version:
            raise RegistryError(f"version {version} is the champion", where=name, fix="challenge it with another one")
        if reason := versions.unfit(registry, name, version):
            raise RegistryError(reason, where=name, fix="register a release that passed the gate (`trimtab release`)")
        return move(registry, name, version, who, why)


def clear(registry: Registry, name: str, *, who: str, why: str) -> Challenge:
    """Try nothing any more.

    Raises:
        RegistryError: nothing is tried, or MLflow refused.
        Conflict: another machine changed the challenger at the same moment; nothing was changed.
    """
    with mlflow_errors(f"challenge {name}"), registry.lock("promote", release_name(name)):
        settle(registry, name)
        if read_challenges(registry.ledger, name).version is None:
            raise RegistryError("has no challenger", where=name, fix="set one with `trimtab challenge NAME VERSION`")
        return move(registry, name, None, who, why)


def how_tried(registry: Registry, name: str, version: int) -> str:
    """In words, what of the traffic reaches a version while it is the challenger.

    Raises:
        RegistryError: its release cannot be read. StateError: what it says of the trial cannot be.
    """
    with mlflow_errors(f"{name} version {version}"):
        trial = Trial.from_json(evidence.facts_of(registry, name, version).get("serving", {}))
    ways = []
    if trial.canary_percent:
        ways.append(f"answers {trial.canary_percent:g} % of requests")
    if trial.by_header:
        ways.append("answers those that ask for it")
    if trial.shadow_percent:
        ways.append(f"runs copies of {trial.shadow_percent:g} %")
    return ", ".join(ways) or "nothing reaches it: its recipe has neither serving.canary nor serving.shadow"
