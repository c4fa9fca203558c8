"""As much of MLflow's client as promotion, deletion and examination use, in memory; for tests without a server."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import RESOURCE_DOES_NOT_EXIST, MlflowException

from trimtab.ledger import Ledger
from trimtab.registry import evidence, versions
from trimtab.registry.connection import RELEASE_KEY, Registry
from trimtab.registry.keys import Keyring

NAME = "digits"


class Page(list):  # type: ignore[type-arg]
    token = None


class Client:
    """One registered model; what a call would delete is gone, aliases of a deleted version too, as MLflow does it."""

    def __init__(self) -> None:
        self.versions: dict[int, Any] = {}
        self.aliases: dict[str, int] = {}
        self.tags: dict[str, str] = {}
        self.models: dict[str, Any] = {}
        self.clock = itertools.count(1)

    def get_registered_model(self, name: str) -> Any:
        return SimpleNamespace(aliases={key: str(value) for key, value in self.aliases.items()}, tags=dict(self.tags))

    def get_model_version(self, name: str, version: str) -> Any:
        if int(version) not in self.versions:
            raise MlflowException("no such version", RESOURCE_DOES_NOT_EXIST)
        return self.versions[int(version)]

    def search_model_versions(self, query: str, max_results: int = 0, page_token: str | None = None) -> Any:
        every = [version for _, version in sorted(self.versions.items())]
        return Page([one for one in every if "source_path" not in query or f"'{one.source}'" in query])

    def update_model_version(self, name: str, version: str, description: str) -> None:
        self.versions[int(version)].description = description

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        self.tags[key] = value

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[alias] = int(version)

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        self.aliases.pop(alias, None)

    def transition_model_version_stage(self, name: str, version: str, stage: str, **_: Any) -> None:
        self.versions[int(version)].current_stage = stage
        self.versions[int(version)].last_updated_timestamp = next(self.clock)

    def delete_model_version(self, name: str, version: str) -> None:
        del self.versions[int(version)]
        self.aliases = {alias: at for alias, at in self.aliases.items() if at != int(version)}

    def get_logged_model(self, model_id: str) -> Any:
        if model_id not in self.models:
            raise MlflowException("no such model", RESOURCE_DOES_NOT_EXIST)
        return self.models[model_id]


class World:
    """A registry with versions that were registered; `broken` says what is wrong with a version's files.

    `facts` is release.json of a version, as much of it as a test needs.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.client, self.broken = Client(), dict[int, str]()
        self.facts: dict[int, dict[str, Any]] = {}
        ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
        keys, shown = Keyring(folder / "keys"), folder / "comparisons"
        self.registry = Registry(self.client, "http://mlflow", ledger, folder / "locks", keys, shown)  # type: ignore[arg-type]
        patch.setattr(versions, "unfit", self._unfit)
        patch.setattr(versions, "discard_model", self._discard)
        patch.setattr(evidence, "facts_of", lambda registry, name, version: self.facts.get(version, {}))
        patch.setattr(versions, "bytes_of", lambda registry, model_id: 1000 if model_id in self.client.models else 0)

    def release(self, version: int) -> int:
        self.made_elsewhere(version)
        entry = {"act": "registered", "version": version, "release_key": f"k{version}", "evidence": "e" * 64}
        self.registry.ledger.record(versions.stream(NAME), entry, None)
        return version

    def made_elsewhere(self, version: int) -> None:
        """A version of which the ledger knows nothing."""
        model = f"m-{version}"
        self.client.models[model] = SimpleNamespace(model_id=model)
        self.client.versions[version] = SimpleNamespace(
            version=str(version),
            source=f"models:/{model}",
            tags={RELEASE_KEY: f"k{version}"},
            current_stage="None",
            last_updated_timestamp=next(self.client.clock),
            status="READY",
            description=f"# Version {version}",
        )

    def _unfit(
        self, registry: Registry, name: str, version: int, *, deeply: bool = True, unrecorded: bool = False
    ) -> str | None:
        if version not in versions.recorded(registry.ledger, name) and not unrecorded:
            return f"version {version} has no record of having passed the gate"
        if version not in self.client.versions:
            return f"version {version} does not exist in MLflow"
        return self.broken.get(version)

    def _discard(self, registry: Registry, model: Any) -> int:
        del self.client.models[model.model_id]
        return 1000
