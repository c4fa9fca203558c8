"""Register a release: one MLflow model version, once, whole, and only if it passed the gate.

    ledger "registering" → logged model (PENDING) → files, signed → READY → checked whole → model version
        → ledger "registered"

Each arrow can be the last thing that happens before a kill. The next call for the same release finds what is there by
the tag `trimtab.release_key`: a PENDING model is discarded, a whole READY one is taken up, a version that no ledger
entry knows is recorded if its model is whole and deleted if it is not. A version counts only once the ledger says
"registered"; nothing else may be promoted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from trimtab.candidate import digest_of
from trimtab.errors import RegistryError
from trimtab.registry import package, pyfunc_model, signing, versions
from trimtab.registry.connection import RELEASE_KEY, RELEASE_NAME, Registry, mlflow_errors
from trimtab.registry.contents import RELEASE_FOLDER, model_id_of, whats_missing
from trimtab.registry.failpoint import around
from trimtab.registry.hostile import refuse_hostile
from trimtab.registry.names import release_name

GATE_TAG, CANDIDATE_TAG, TARGET_TAG = "trimtab.gate", "trimtab.candidate", "trimtab.target"


@dataclass(frozen=True)
class Submission:
    """A release and what is said about it.

    Attributes:
        folder: the release folder (see `package`).
        loader_source: source of the one loader file.
        requirements: pinned pip requirements of the loader.
        run_id: the MLflow run that made it.
        description: Markdown shown on the version's page.
        tags: further tags of the version, e.g. figures.
        decision: the gate's decision as JSON; its "answer" must be "pass".
    """

    folder: Path
    loader_source: str
    requirements: Sequence[str]
    run_id: str
    description: str
    tags: Mapping[str, str]
    decision: Mapping[str, Any]


def register(registry: Registry, submission: Submission) -> int:
    """Register a release, or finish or find what an earlier call for the same release began.

    Returns:
        The version number. The same release always gets the same one, unless that was deleted.

    Raises:
        RegistryError: the gate did not pass, the folder is not what its manifest says or holds what must not be
            loaded, or MLflow refused.
    """
    facts = package.check(submission.folder)
    refuse_hostile(submission.folder)
    name = release_name(str(facts["name"]))
    if submission.decision.get("answer") != "pass":
        raise RegistryError(
            f"the gate's answer is {submission.decision.get('answer')!r}; only what passed is registered",
            where=name,
            fix="see the verification report",
        )
    key = package.release_key(submission.folder)
    with mlflow_errors(f"register {name}"), registry.lock("register", name):
        return _Registration(registry, submission, facts, name, key).run()


@dataclass(frozen=True)
class _Registration:
    registry: Registry
    submission: Submission
    facts: Mapping[str, Any]
    name: str
    key: str

    def run(self) -> int:
        version = self._settled()
        if version is not None:
            return version
        with around("register.intent"):
            self._record("registering", {"run_id": self.submission.run_id})
        self._ensure_registered_model()
        model = self._whole_model()
        with around("register.create_model_version"):
            created = self.registry.client.create_model_version(
                self.name,
                f"models:/{model.model_id}",
                self.submission.run_id,
                tags=self._tags(),
                description=self.submission.description,
                await_creation_for=0,  # the files are there already: it is READY at once
                model_id=model.model_id,
            )
        return self._registered(int(created.version))

    def _settled(self) -> int | None:
        """The version of an earlier call, recorded now if that call did not live to; broken ones are deleted."""
        known = versions.recorded(self.registry.ledger, self.name)
        for version in self._with_our_key():
            number = int(version.version)
            model_id = model_id_of(version.source)
            # One that was registered before releases were signed stays the version of this release.
            whole = model_id is not None and not self._missing(model_id, signed=number not in known)
            if whole:
                return number if known.get(number) == self.key else self._registered(number)
            if number in known:  # its files were deleted in MLflow since; it stays as a record, a new one is made
                continue
            with around("register.delete_half_version"):
                self.registry.client.delete_model_version(self.name, version.version)
        return None

    def _whole_model(self) -> LoggedModel:
        """A READY logged model with all files: an earlier call's, or a new one; begun ones are discarded."""
        client = self.registry.client
        experiment = client.get_run(self.submission.run_id).info.experiment_id
        for model in versions.logged_models(client, experiment, self.name, self.key):
            if model.status == LoggedModelStatus.READY and not self._missing(model.model_id):
                return model
            with around("register.discard_model"):
                versions.discard_model(self.registry, model)
        return self._new_model(experiment)

    def _new_model(self, experiment: str) -> LoggedModel:
        client, run_id = self.registry.client, self.submission.run_id
        with around("register.create_logged_model"):
            tags = {RELEASE_KEY: self.key, RELEASE_NAME: self.name}
            model = client.create_logged_model(experiment, self.name, run_id, tags)
        with TemporaryDirectory(prefix="trimtab-register-") as folder:
            built = Path(folder) / "model"
            with around("register.build"):
                pyfunc_model.build(
                    built,
                    self.submission.folder,
                    self.submission.loader_source,
                    self.submission.requirements,
                    model.model_id,
                    run_id,
                )
            with around("register.sign"):
                signing.sign_folder(built / RELEASE_FOLDER, self.name, self.registry.keys)
                signing.sign_folder(built, self.name, self.registry.keys)
            with around("register.upload"):
                client.log_model_artifacts(model.model_id, str(built))
        if missing := self._missing(model.model_id):
            raise RegistryError(f"the upload is not whole: {missing}", where=self.name, fix="try again")
        with around("register.log_outputs"):
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        with around("register.finalize"):
            return client.finalize_logged_model(model.model_id, "READY")

    def _ensure_registered_model(self) -> None:
        with around("register.create_registered_model"):
            try:
                self.registry.client.create_registered_model(self.name, description=self._model_description())
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

    def _model_description(self) -> str:
        """Of all versions, given once when the model is first registered: what it is for and what makes it."""
        return " ".join(filter(None, [str(self.facts.get("intended_use") or "").strip(), "Made by Trimtab."]))

    def _registered(self, version: int) -> int:
        with around("register.registered"):
            self._record("registered", {"version": version, "evidence": digest_of(dict(self.submission.decision))})
        return version

    def _record(self, act: str, details: Mapping[str, Any]) -> None:
        entry = {"act": act, "release_key": self.key, "candidate": self.facts.get("candidate"), **details}
        self.registry.ledger.record(versions.stream(self.name), entry, None)

    def _with_our_key(self) -> list[ModelVersion]:
        query = f"name = '{self.name}' and tags.`{RELEASE_KEY}` = '{self.key}'"
        return sorted(self.registry.client.search_model_versions(query), key=lambda found: int(found.version))

    def _missing(self, model_id: str, *, signed: bool = True) -> str | None:
        manifest = package.read_manifest(self.submission.folder)
        sizes = {file: (self.submission.folder / file).stat().st_size for file in manifest}
        client, address = self.registry.client, self.registry.tracking_uri
        return whats_missing(client, address, model_id, self.key, sizes, signed=signed)

    def _tags(self) -> dict[str, str]:
        own = {
            RELEASE_KEY: self.key,
            GATE_TAG: "passed",
            CANDIDATE_TAG: str(self.facts.get("candidate")),
            TARGET_TAG: str(self.facts.get("target")),
        }
        return {**{key: str(value) for key, value in self.submission.tags.items()}, **own}
