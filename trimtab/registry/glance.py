"""A look at the registry that costs next to nothing, over MLflow's REST interface; no mlflow import.

MLflow changes a registered model's time of change with every transition of one of its versions, and gives its aliases
with it, though moving one touches no time. So one request tells whether anything moved since the last look; only then
are the stages of all versions asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from trimtab.errors import RegistryError
from trimtab.registry.rest import API, check_ok, json_object, rest
from trimtab.registry.shown import Shown

PAGE = 200


@dataclass(frozen=True)
class Glance:
    """What changes whenever an alias or a stage of a release name does.

    Attributes:
        aliases: (alias, version), sorted. updated: milliseconds since 1970.
    """

    aliases: tuple[tuple[str, int], ...] = ()
    updated: int = 0


def glance(tracking_uri: str, name: str) -> Glance:
    """One request; an empty one where there is no such release.

    Raises:
        RegistryError: the server does not answer, or not as MLflow does.
    """
    with rest(tracking_uri) as client:
        return _glance(client, name)


def shown(tracking_uri: str, name: str) -> Shown:
    """Aliases and stages as they are now: one request, and one for each 200 versions.

    Raises:
        RegistryError: as for `glance`.
    """
    with rest(tracking_uri) as client:
        found = _glance(client, name)
        every = list(_versions(client, name))
    try:
        return Shown(
            dict(found.aliases),
            {int(version["version"]): str(version["current_stage"]) for version in every},
            {int(version["version"]): int(version["last_updated_timestamp"]) for version in every},
        )
    except (KeyError, TypeError, ValueError):
        raise RegistryError("MLflow's answer has versions without number or stage", where=tracking_uri) from None


def _glance(client: httpx.Client, name: str) -> Glance:
    response = client.get(f"{API}/registered-models/get", params={"name": name})
    body = json_object(response)
    if body.get("error_code") == "RESOURCE_DOES_NOT_EXIST":
        return Glance()
    check_ok(response)
    try:
        model = body["registered_model"]
        aliases = sorted((str(one["alias"]), int(one["version"])) for one in model.get("aliases", ()))
        return Glance(tuple(aliases), int(model["last_updated_timestamp"]))
    except (KeyError, TypeError, ValueError):
        raise RegistryError("the answer has no aliases or no time", where=str(response.request.url)) from None


def _versions(client: httpx.Client, name: str) -> Iterator[Any]:
    token = ""
    while True:
        query = {"filter": f"name = '{name}'", "max_results": str(PAGE), **({"page_token": token} if token else {})}
        response = client.get(f"{API}/model-versions/search", params=query)
        body = json_object(response)
        check_ok(response)
        yield from body.get("model_versions", ())
        token = str(body.get("next_page_token", ""))
        if not token:
            return
