"""What every registry call needs: the MLflow client, the ledger, and the folder of OS locks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from trimtab.errors import RegistryError
from trimtab.ledger import Ledger
from trimtab.registry.keys import Keyring
from trimtab.registry.names import lock_file
from trimtab.settings import Settings
from trimtab.store import os_lock

# Tags of ours on runs, logged models and model versions.
RELEASE_KEY = "trimtab.release_key"
CANDIDATE_KEY = "trimtab.candidate_key"
BATCH_KEY = "trimtab.batch_key"
RELEASE_NAME = "trimtab.release"
PARENT_RUN = "mlflow.parentRunId"  # MLflow's own: nests the child in the UI

# MLflow 3.17 reads these from the environment only. A value that the user set stays.
_MANNERS = {
    "MLFLOW_UV_AUTO_DETECT": "false",  # would copy uv.lock and pyproject.toml of the working directory into a model
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def mlflow_client(tracking_uri: str) -> MlflowClient:
    """A client for tracking and registry on one server; independent of MLflow's global state."""
    for variable, value in _MANNERS.items():
        os.environ.setdefault(variable, value)
    return MlflowClient(tracking_uri, tracking_uri)


@dataclass(frozen=True)
class Registry:
    """An MLflow server (tracking and registry in one), the ledger beside it, and where locks are.

    Attributes:
        client: MLflow client bound to the server; thread-safe, independent of MLflow's global state.
        tracking_uri: address of the server.
        ledger: streams "versions/<name>", "promotions/<name>" and "challenges/<name>".
        locks: folder of lock files.
        keys: what signs releases and whose signatures are trusted.
        comparisons: folder of what challengers showed, one below it a release name; None where none is known.
    """

    client: MlflowClient
    tracking_uri: str
    ledger: Ledger
    locks: Path
    keys: Keyring
    comparisons: Path | None = None

    @classmethod
    def connect(
        cls, tracking_uri: str, ledger: Ledger, locks: Path, keys: Path, comparisons: Path | None = None
    ) -> Registry:
        """Bind to an MLflow server; nothing is sent yet."""
        return cls(mlflow_client(tracking_uri), tracking_uri, ledger, locks, Keyring(keys), comparisons)

    @classmethod
    def from_settings(cls, settings: Settings) -> Registry:
        """The registry that the settings name.

        Raises:
            StateError: no MLflow server is known, or the ledger cannot be opened.
        """
        ledger, keys = Ledger(settings.ledger), settings.signing_keys
        return cls.connect(settings.tracking_uri(), ledger, settings.locks, keys, settings.comparisons)

    @contextlib.contextmanager
    def lock(self, what: str, name: str) -> Iterator[None]:
        """One at a time on this machine: waits for the others ("register" or "promote" of a release name)."""
        with os_lock(lock_file(self.locks, what, name), wait=True, what=f"{what} {name}"):
            yield


@contextlib.contextmanager
def mlflow_errors(where: str) -> Iterator[None]:
    """Turn MLflow's exceptions (which include failed connections) into ours.

    Raises:
        RegistryError: MLflow refused or did not answer.
    """
    try:
        yield
    except MlflowException as error:
        first_line = str(error).strip().splitlines()[0]
        raise RegistryError(
            f"MLflow refused or did not answer: {first_line}",
            where=where,
            fix="see that the MLflow server runs (`trimtab status`) and read its log",
        ) from error
