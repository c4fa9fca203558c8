"""What `mlflow deployments -t trimtab` does to the stack, without servers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.deployments import BaseDeploymentClient
from mlflow.exceptions import MlflowException

from deployments import mlflow_plugin, placement
from deployments.mlflow_tables import as_form, split
from deployments.stack import ServiceStatus
from deployments.stack.ports import USUAL, Ports, with_pin
from deployments.stack.record import read_ports, write_ports
from trimtab.errors import Conflict, RegistryError, StateError
from trimtab.registry.reference import Reference
from trimtab.settings import Settings


@dataclass
class World:
    """A stack and a registry of which only the records exist: versions 1 to 4 of digits, champion 2, challenger 3."""

    settings: Settings
    champion: int = 2
    refuses: bool = False
    ups: list[tuple[str | None, str | None]] = field(default_factory=list)
    promoted: list[tuple[str, int, str, str]] = field(default_factory=list)

    @property
    def ports(self) -> Ports:
        return read_ports(self.settings) or USUAL

    def up(self, settings: Settings, *, release: str | None = None, pin: str | None = None, **_: Any) -> Any:
        self.ups.append((release, pin))
        ports = self.ports
        if release:
            ports = with_pin(replace(ports, scoring={**ports.scoring, release: 8080 + len(self.ups)}), release, pin)
        write_ports(settings, ports)
        return SimpleNamespace(settings=settings.model_copy(update={"mlflow_tracking_uri": "http://mlflow"}))

    def status(self, settings: Settings) -> list[ServiceStatus]:
        return [
            ServiceStatus(f"scoring-{name}", "RUNNING", True, 1, f"http://127.0.0.1:{port}", Path("log"))
            for name, port in self.ports.scoring.items()
        ]

    def version_under(self, uri: str, name: str, alias: str) -> int | None:
        return {"champion": self.champion, "challenger": 3}.get(alias) if name == "digits" else None

    def check_version(self, uri: str, name: str, version: int) -> None:
        if name != "digits" or version > 4:
            raise RegistryError(f"no version {version}", where=name)

    def asked(self, settings: Settings, name: str) -> tuple[str | None, str]:
        meant = Reference.parse(self.ports.pinned.get(name, name))
        if self.refuses:
            return None, "version 9 was refused: not signed"
        return str(meant.version or self.version_under("", meant.name, str(meant.alias))), ""

    def promote(self, registry: Any, name: str, version: int, *, who: str, why: str) -> None:
        self.promoted.append((name, version, who, why))
        self.champion = version


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(Settings(home=tmp_path))
    monkeypatch.setenv("TRIMTAB_HOME", str(tmp_path))
    monkeypatch.setattr(placement, "up", made.up)
    monkeypatch.setattr(placement, "status", made.status)
    monkeypatch.setattr(placement, "_asked", made.asked)
    monkeypatch.setattr(placement, "check_version", made.check_version)
    monkeypatch.setattr("trimtab.registry.reference.version_under", made.version_under)
    monkeypatch.setattr("trimtab.registry.promote.promote", made.promote)
    monkeypatch.setattr("trimtab.registry.connection.Registry.from_settings", lambda settings: None)
    return made


def client(uri: str = "trimtab") -> mlflow_plugin.TrimtabDeploymentClient:
    return mlflow_plugin.TrimtabDeploymentClient(uri)


def test_the_releases_own_service_is_created_for_its_champion(world: World) -> None:
    made = client().create_deployment("digits", "models:/digits@champion")

    assert world.ups == [(None, None), ("digits", None)]
    assert (made["name"], made["release"], made["version"], made["flavor"]) == (
        "digits", "digits@champion", "2", "python_function",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("uri", "pin", "version"),
    [("models:/digits/4", "digits/4", "4"), ("models:/digits@challenger", "digits@challenger", "3")],
)
def test_another_name_serves_a_version_or_an_alias_beside_it(world: World, uri: str, pin: str, version: str) -> None:
    made = client().create_deployment("trial", uri)

    assert world.ups[-1] == ("trial", pin)
    assert (made["release"], made["version"]) == (pin, version)


def refused(call: Callable[[], Any], code: str) -> str:
    with pytest.raises(MlflowException) as caught:
        call()
    assert caught.value.error_code == code
    return str(caught.value)


def test_a_name_that_is_taken_is_refused(world: World) -> None:
    client().create_deployment("trial", "models:/digits/4")

    refused(lambda: client().create_deployment("trial", "models:/digits/3"), "RESOURCE_ALREADY_EXISTS")


def test_a_releases_own_service_cannot_be_created_on_another_version(world: World) -> None:
    said = refused(lambda: client().create_deployment("digits", "models:/digits/4"), "RESOURCE_CONFLICT")

    assert "version 4 is not" in said
    assert world.ups == [(None, None)]
    assert client().create_deployment("digits", "models:/digits/2")["version"] == "2"


@pytest.mark.parametrize(
    ("name", "uri", "code"),
    [
        ("x", "models:/digits/9", "INVALID_STATE"),
        ("x", "models:/absent@champion", "INVALID_STATE"),
        ("x", "runs:/abc/model", "INVALID_STATE"),
        ("../x", "models:/digits/4", "INVALID_STATE"),
    ],
)
def test_what_cannot_be_served_starts_nothing(world: World, name: str, uri: str, code: str) -> None:
    refused(lambda: client().create_deployment(name, uri), code)

    assert client().list_deployments() == []


def test_a_service_that_refuses_its_release_is_taken_out_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "PATIENCE_S", 0.3)
    world.refuses = True

    said = refused(lambda: client().create_deployment("trial", "models:/digits/4"), "INTERNAL_ERROR")

    assert "not signed" in said
    assert client().list_deployments() == []


def test_updating_a_releases_own_service_promotes_with_a_reason(world: World) -> None:
    client().create_deployment("digits", "models:/digits@champion")

    updated = client().update_deployment("digits", "models:/digits/4", config={"why": "agreed"})

    assert updated["version"] == "4"
    assert [(name, version, why) for name, version, _, why in world.promoted] == [("digits", 4, "agreed")]
    assert world.ups[-1] == (None, None)


def test_updating_another_service_promotes_nothing(world: World) -> None:
    client().create_deployment("trial", "models:/digits/4")

    assert client().update_deployment("trial", "models:/digits@challenger")["version"] == "3"
    assert world.ups[-1] == ("trial", "digits@challenger")
    assert world.promoted == []


def test_a_service_that_refuses_its_update_gets_back_what_it_had(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "PATIENCE_S", 0.3)
    client().create_deployment("trial", "models:/digits/4")
    world.refuses = True

    refused(lambda: client().update_deployment("trial", "models:/digits/3"), "INTERNAL_ERROR")

    assert world.ups[-2:] == [("trial", "digits/3"), ("trial", "digits/4")]


def test_what_cannot_be_updated_is_refused(world: World) -> None:
    client().create_deployment("trial", "models:/digits/4")

    refused(lambda: client().update_deployment("absent", "models:/digits/4"), "RESOURCE_DOES_NOT_EXIST")
    refused(lambda: client().update_deployment("trial", "models:/other/4"), "RESOURCE_CONFLICT")
    refused(lambda: client().update_deployment("trial"), "INVALID_PARAMETER_VALUE")
    refused(lambda: client().update_deployment("trial", "models:/digits/4", config={"x": 1}), "INVALID_PARAMETER_VALUE")
    assert client().get_deployment("trial")["version"] == "4"


def test_deleting_stops_it_and_may_be_repeated(world: World) -> None:
    client().create_deployment("trial", "models:/digits/4")

    client().delete_deployment("trial")
    client().delete_deployment("trial")

    refused(lambda: client().get_deployment("trial"), "RESOURCE_DOES_NOT_EXIST")


def test_endpoints_and_other_flavors_are_refused(world: World) -> None:
    refused(lambda: client().list_deployments(endpoint="e"), "INVALID_PARAMETER_VALUE")
    refused(lambda: client().create_deployment("x", "models:/digits/4", flavor="onnx"), "INVALID_PARAMETER_VALUE")


def test_streaming_is_refused(world: World) -> None:
    assert "does not stream" in refused(lambda: client().predict_stream("digits", {}), "INVALID_PARAMETER_VALUE")


def test_the_state_directory_may_be_in_the_target(tmp_path: Path) -> None:
    assert client(f"trimtab:{tmp_path}/a%20b")._settings().home == tmp_path / "a b"


def test_mlflow_finds_what_it_wants_in_the_module() -> None:
    classes = [
        one
        for one in vars(mlflow_plugin).values()
        if isinstance(one, type) and issubclass(one, BaseDeploymentClient) and one is not BaseDeploymentClient
    ]

    assert classes == [mlflow_plugin.TrimtabDeploymentClient]
    assert "models:/NAME@champion" in mlflow_plugin.target_help()
    assert callable(mlflow_plugin.run_local)


def test_our_errors_are_told_by_their_kind() -> None:
    def fail(error: Exception) -> None:
        with mlflow_plugin._as_mlflow():
            raise error

    assert "fix: do so" in refused(lambda: fail(StateError("broken", fix="do so")), "INTERNAL_ERROR")
    refused(lambda: fail(Conflict("x")), "RESOURCE_CONFLICT")
    with pytest.raises(KeyError):
        fail(KeyError("a bug"))


def test_a_table_goes_as_dataframe_split_with_plain_cells() -> None:
    df = pd.DataFrame({"a": [1, 2], 0: [0.1, None], "image": [np.ones(2, np.float32), [3.0, 4.0]]})

    form = as_form(df)

    assert form is not None
    assert form["dataframe_split"]["columns"] == ["a", "0", "image"]
    rows = form["dataframe_split"]["data"]
    assert rows[0] == [1, 0.1, [1.0, 1.0]]
    assert np.isnan(rows[1][1])
    assert split(df.iloc[:1])["data"] == rows[:1]


@pytest.mark.parametrize(
    ("inputs", "is_form"),
    [
        ({"instances": [[1]]}, True), ({"dataframe_records": [{"a": 1}]}, True), ([[1.0]], True),
        ({"image": np.ones((1, 2))}, False), ({"inputs": np.ones((1, 2))}, False), (np.ones((1, 2)), False),
    ],
)  # fmt: skip
def test_forms_are_told_from_arrays(inputs: Any, is_form: bool) -> None:
    assert (as_form(inputs) is not None) is is_form
