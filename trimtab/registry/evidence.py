"""What a promotion rests on: where a release asks for evidence (`serving.promotion`), what its trial showed.

The rule is the promoted version's own, from its release.json, which is signed; the evidence is about this version and
the champion that serves now, so a trial against another champion counts for nothing.
"""

from __future__ import annotations

from typing import Any

from trimtab.errors import RegistryError, StateError
from trimtab.journal.comparisons import read_tallies
from trimtab.journal.outcomes import Tally
from trimtab.registry import contents, versions
from trimtab.registry.connection import Registry
from trimtab.serving.evidence import Rule, missing


class Unproven(RegistryError):
    """The version has not shown what its release asks for before it is promoted; nothing was changed."""


def proof(registry: Registry, name: str, champion: int, version: int, *, force: bool) -> dict[str, Any] | None:
    """What a version showed against the champion, for the record; None where its release asks for nothing.

    Args:
        force: let it pass whatever is missing; what is missing is in the record.

    Raises:
        Unproven: with what is missing, in figures. RegistryError, StateError: rule or evidence cannot be read.
    """
    rule = Rule.from_json(facts_of(registry, name, version).get("serving", {}))
    if rule is None:
        return None
    try:
        tally = _tally(registry, name, str(champion), str(version))
    except StateError:
        if not force:
            raise
        tally = Tally(str(champion), str(version))
    lacking = missing(rule, tally)
    if lacking and not force:
        raise Unproven(
            f"has not shown against version {champion} what serving.promotion asks for: {'; '.join(lacking)}",
            where=f"{name} version {version}",
            fix=f"let it be tried on (`trimtab challenge {name} {version}`), or promote it with --force",
        )
    return {"rule": rule.to_json(), "comparison": tally.to_json(), "missing": lacking}


def facts_of(registry: Registry, name: str, version: int) -> dict[str, Any]:
    """release.json of a registered version, vouched for by the key in the ledger.

    Raises:
        RegistryError: there is no such version, or its file is another than was registered.
        MlflowException: the server does not answer.
    """
    key = versions.recorded(registry.ledger, name).get(version)
    found = versions.find(registry.client, name, version)
    model_id = None if found is None else contents.model_id_of(found.source)
    if key is None or model_id is None:
        raise RegistryError(f"version {version} was not registered by trimtab", where=name)
    return contents.release_facts(registry.client, registry.tracking_uri, model_id, key)


def _tally(registry: Registry, name: str, champion: str, version: str) -> Tally:
    found = {} if registry.comparisons is None else read_tallies(registry.comparisons / name)
    return found.get((champion, version), Tally(champion, version))
