"""`mlflow deployments … -t trimtab`: MLflow's words for the scoring services of a state directory (see `placement`).

MLflow finds this module by the entry point `mlflow.deployments`, wants `run_local`, `target_help` and exactly one class
that derives from `BaseDeploymentClient` in it, and expects its own exception.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow.deployments import BaseDeploymentClient, PredictionsResponse
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    INVALID_STATE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_CONFLICT,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)

from deployments import placement
from deployments.environment import environment
from deployments.foreground import run_in_foreground
from deployments.mlflow_tables import as_form, as_response, split
from trimtab.client import Refused, Unavailable
from trimtab.errors import Conflict, DataError, ProtocolError, RecipeError, RegistryError, TrimtabError
from trimtab.own_service import own_client
from trimtab.registry.author import author
from trimtab.registry.names import release_name
from trimtab.registry.reference import Reference
from trimtab.runtime.door import InputError, check_inputs
from trimtab.settings import Settings

FLAVOR = "python_function"
HELP = """
Deployments of target `trimtab` are the scoring services that one supervisor runs on this machine, for one state
directory: those of `trimtab up` and those made here. Nothing else is listed, changed or deleted.

Target:  trimtab               the state directory of $TRIMTAB_HOME, else the nearest .trimtab upwards, else ~/.trimtab
         trimtab:/path/to/dir  this one
Model:   models:/NAME@champion, models:/NAME@ALIAS or models:/NAME/VERSION; a release that `trimtab release` registered
         in the MLflow server of that state directory, whatever MLFLOW_TRACKING_URI says
Flavor:  python_function, or none

create   with the release's own name: its service, which follows the champion and whose journal is watched. With another
         name: a service of that version or alias beside it, with a journal of its own that nobody watches.
         Servers that are missing are started.
update   a release's own service: the version is promoted, if it passed the gate (-C why=REASON for the ledger). Another
         one is started again on what it is to serve, and does not answer for some seconds.
predict  a table as pandas.read_json reads it: a column an input, or a feature where the model has one input.
explain  occlusion, by the version that answers, in this process: nothing of it reaches the service or its journal.
delete   stops the service. Its journal, and what the registry has, stay.
run-local  one service in the foreground, which the commands above do not see (-C port=PORT).
"""


def target_help() -> str:
    """What `mlflow deployments help -t trimtab` prints."""
    return HELP


def run_local(name: str, model_uri: str, flavor: str | None = None, config: Mapping[str, Any] | None = None) -> None:
    """Serve a release in the foreground until interrupted; the journal is that of `name`.

    Args:
        config: `port`, 8080 without it; `home`, the state directory.

    Raises:
        MlflowException: it is no release, or the service ended with an error.
    """
    with _as_mlflow():
        given = _config(config, {"port", "home"})
        _check_flavor(flavor)
        release = Reference.parse(model_uri)
        settings = Settings.load(Path(given["home"]) if "home" in given else None)
        command = [
            *(sys.executable, "-P", "-m", "deployments.scoring", "--name", release_name(name)),
            *("--release", str(release)),
            *("--home", str(settings.home), "--mlflow", settings.tracking_uri(), "--port", given.get("port", "8080")),
        ]
        code = run_in_foreground(command, {**os.environ, **environment(settings)})
        if code:
            raise MlflowException(f"the scoring service ended with exit code {code}", error_code=INTERNAL_ERROR)


class TrimtabDeploymentClient(BaseDeploymentClient):
    """The deployments of one state directory.

    Args:
        target_uri: "trimtab", or "trimtab:/path/to/the/state/directory".
    """

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)
        path = unquote(urlsplit(target_uri).path) if ":" in target_uri else ""
        self._home = Path(path) if path else None

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Start a scoring service; returns when it answers with the release.

        Raises:
            MlflowException: a deployment has the name, there is no such release, or a server does not start.
        """
        with _as_mlflow():
            _check(endpoint, flavor)
            _config(config, set())
            return _told(placement.create(self._settings(), name, Reference.parse(model_uri)))

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Promote a version, or let another service serve something else; returns when it answers with that.

        Args:
            config: `why`, the reason of a promotion, for the ledger.

        Raises:
            MlflowException: nothing to change, no such deployment or release, or a version that may not be promoted.
        """
        with _as_mlflow():
            _check(endpoint, flavor)
            given = _config(config, {"why"})
            if model_uri is None:
                raise RecipeError("there is nothing to update", where=name, fix="give --model-uri")
            why = given.get("why", "mlflow deployments update")
            release = Reference.parse(model_uri)
            return _told(placement.update(self._settings(), name, release, who=author(), why=why))

    def delete_deployment(
        self, name: str, config: Mapping[str, Any] | None = None, endpoint: str | None = None
    ) -> None:
        """Stop the service; one that is not there is no error."""
        with _as_mlflow():
            _check(endpoint)
            _config(config, set())
            placement.delete(self._settings(), name)

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """Every deployment of the state directory."""
        with _as_mlflow():
            _check(endpoint)
            return [_told(deployment) for deployment in placement.every(self._settings())]

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """One deployment: what it serves, its state, address and log.

        Raises:
            MlflowException: there is none.
        """
        with _as_mlflow():
            _check(endpoint)
            return _told(placement.one(self._settings(), name))

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> PredictionsResponse:
        """Score by the service.

        Args:
            inputs: a pandas DataFrame, name → array, an array, or one of the service's JSON forms as a dict.

        Raises:
            MlflowException: no such deployment, it does not answer, or it refuses the inputs.
        """
        with _as_mlflow():
            _check(endpoint)
            form, settings = as_form(inputs), self._settings()
            deployed = placement.one(settings, str(deployment_name))
            with own_client(settings, deployed.name) as service:
                answer = service.predict(inputs) if form is None else service.invoke(form)
            return PredictionsResponse(as_response(answer))

    def predict_stream(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Refused: a release answers a row at once."""
        raise MlflowException(
            "trimtab does not stream: its releases answer a row at once; use predict",
            error_code=INVALID_PARAMETER_VALUE,
        )

    def explain(
        self, deployment_name: str | None = None, df: Any = None, endpoint: str | None = None
    ) -> dict[str, Any]:
        """Occlusion attributions of each row of a DataFrame, by the version that answers.

        Raises:
            MlflowException: no such deployment, it does not answer, or the rows cannot be read.
        """
        from trimtab.explanations import explain
        from trimtab.released import open_release
        from trimtab.serving.tables import split_table, table_arrays

        with _as_mlflow():
            _check(endpoint)
            settings = self._settings()
            deployed = placement.one(settings, str(deployment_name))
            if deployed.version is None:
                raise Unavailable(deployed.trouble or "does not answer now", where=deployed.name)
            name = Reference.parse(deployed.release).name
            loaded, folder = open_release(settings, name, int(deployed.version))
            table = split_table(split(df))
            spec = loaded.predictor.spec
            inputs = check_inputs(spec, table_arrays(table, spec["inputs"]))
            return explain(loaded, folder, inputs, table.columns).to_json()

    def _settings(self) -> Settings:
        return Settings.load(self._home)


def _told(deployment: placement.Deployment) -> dict[str, Any]:
    return {**deployment.to_json(), "flavor": FLAVOR}


def _config(config: Mapping[str, Any] | None, known: set[str]) -> dict[str, str]:
    given = {str(key): str(value) for key, value in (config or {}).items()}
    if unknown := sorted(set(given) - known):
        fix = f"known here: {', '.join(sorted(known)) or 'none'}"
        raise RecipeError(f"unknown: {', '.join(unknown)}", where="--config", fix=fix)
    return given


def _check(endpoint: str | None, flavor: str | None = None) -> None:
    if endpoint is not None:
        raise RecipeError("trimtab has no endpoints", where="--endpoint", fix="leave it out")
    _check_flavor(flavor)


def _check_flavor(flavor: str | None) -> None:
    if flavor not in (None, FLAVOR):
        raise RecipeError(f"{flavor!r} is not served", where="--flavor", fix=f"leave it out, or give {FLAVOR}")


@contextlib.contextmanager
def _as_mlflow() -> Iterator[None]:
    """Our errors as MLflow's, with its code for each kind."""
    codes: dict[type[TrimtabError], int] = {
        placement.Taken: RESOURCE_ALREADY_EXISTS,
        placement.Absent: RESOURCE_DOES_NOT_EXIST,
        Conflict: RESOURCE_CONFLICT,
        RegistryError: INVALID_STATE,
        Unavailable: TEMPORARILY_UNAVAILABLE,
        **dict.fromkeys((RecipeError, DataError, ProtocolError, Refused), INVALID_PARAMETER_VALUE),
    }
    try:
        yield
    except TrimtabError as error:
        code = next((code for kind, code in codes.items() if isinstance(error, kind)), INTERNAL_ERROR)
        raise MlflowException(str(error), error_code=code) from error
    except InputError as error:
        raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
