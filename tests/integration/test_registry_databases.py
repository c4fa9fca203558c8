"""The registry where MLflow and the ledger are on PostgreSQL, and where MLflow asks for a password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.registry.promoters import race
from benchmarks.registry.servers import (
    QUIET,
    Login,
    create_database,
    mlflow_server,
    postgres_programs,
    postgres_server,
)
from benchmarks.registry.world import World, killed_at
from trimtab.errors import Conflict, RegistryError
from trimtab.ledger import Ledger
from trimtab.registry import follow
from trimtab.registry.promote import champion, history, reconcile

pytestmark = pytest.mark.integration
LOGIN = Login("admin", "a-long-password-of-ours")


@pytest.fixture(scope="module")
def quiet() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        for key, value in QUIET.items():
            patch.setenv(key, value)
        yield patch


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    if postgres_programs() is None:
        pytest.fail("PostgreSQL is not installed: apt-get install postgresql")
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def address(
    postgres: str, quiet: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """MLflow on PostgreSQL, and the ledger's database beside it."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), create_database(postgres, "mlflow")) as server:
        yield server, create_database(postgres, "ledger")


def test_on_postgresql_a_release_is_registered_promoted_and_rolled_back_also_after_kills(
    address: tuple[str, str], tmp_path: Path
) -> None:
    server, ledger = address
    world = World(server, tmp_path, "on-postgresql", ledger)
    killed_at(world, "register", 0.0, "register.upload:after")
    killed_at(world, "register", 1.0, "register.create_model_version:after")
    first, second = world.release(0.0), world.release(1.0)
    assert (world.versions(0.0), world.versions(1.0)) == ([first], [second])
    assert (world.models(0.0), world.models(1.0)) == (["READY"], ["READY"])
    world.promote(first)
    for point in ("promote.intent:after", "promote.alias_champion:after", "promote.promoted:before"):
        killed_at(world, "promote", second, point)
        (note,) = reconcile(world.registry, world.name)
        assert "cut short and was finished" in note
        assert world.serves_consistently() == second
        world.back_from(second)
        assert world.serves_consistently() == first
    assert len(history(world.registry, world.name)) == 7


@pytest.mark.slow
def test_on_postgresql_eight_promoters_leave_one_champion_a_whole_history_and_a_reader_that_always_saw_one(
    address: tuple[str, str], tmp_path: Path
) -> None:
    server, ledger = address
    found = race(World(server, tmp_path, "raced", ledger), 16)
    assert found["promotions"] == 16
    assert (found["champions"], found["history_gaps"]) == (1, 0)
    assert (found["read_none"], found["read_wrong"], found["unanswered"]) == (0, 0, 0)
    assert found["reads"] > 16


def test_the_ledger_on_postgresql_takes_one_of_two_that_expect_the_same_entry(address: tuple[str, str]) -> None:
    one, other = Ledger(address[1]), Ledger(address[1])
    assert one.record("s", {"a": 1}, 0) == 1
    with pytest.raises(Conflict, match="entry 1 is the last one, expected 0"):
        other.record("s", {"a": 2}, 0)
    assert other.record("s", {"a": 2}, 1) == 2
    one.check("s")
    assert [entry.entry for entry in one.read("s")] == [{"a": 1}, {"a": 2}]


@pytest.fixture(scope="module")
def guarded(quiet: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow with its basic auth."""
    with mlflow_server(tmp_path_factory.mktemp("guarded"), login=LOGIN) as server:
        yield server


def test_with_basic_auth_everything_works_by_the_environment_s_password_and_nothing_echoes_a_wrong_one(
    guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in LOGIN.environment().items():
        monkeypatch.setenv(key, value)
    world = World(guarded, tmp_path, "guarded")
    version = world.release(0.0)
    world.promote(version)
    facts = follow.download(guarded, world.name, version, tmp_path / "into", world.registry.keys)
    assert facts["name"] == world.name
    follow.download_model(guarded, world.name, version, tmp_path / "model", world.registry.keys)
    assert world.serves_consistently() == version

    for key, value in Login("admin", "not-the-password").environment().items():
        monkeypatch.setenv(key, value)
    calls = (
        lambda: follow.current_champion(guarded, world.name),
        lambda: champion(world.registry, world.name),
        lambda: world.release(1.0),
    )
    for call in calls:
        with pytest.raises(RegistryError) as caught:
            call()
        assert "not-the-password" not in str(caught.value)
        assert "401" in str(caught.value) or "not authenticated" in str(caught.value).lower()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if LOGIN.password.encode() in path.read_bytes()]
