"""Hands on a real MLflow server: seen over REST, the other half put in step, and what did not pass put back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from benchmarks.registry.servers import QUIET, mlflow_server
from benchmarks.registry.world import World
from deployments.hands.watch import NAMES_S, Watch
from trimtab.errors import RegistryError
from trimtab.ledger import Ledger
from trimtab.registry import allowance, follow, promotions
from trimtab.registry.alias import as_shown
from trimtab.registry.glance import Glance, glance, shown
from trimtab.registry.history import changes
from trimtab.registry.promote import reconcile
from trimtab.registry.register import register
from trimtab.registry.unsaid import unsaid
from trimtab.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for key, value in QUIET.items():
            patch.setenv(key, value)
        with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
            yield address


@dataclass
class Watched:
    """A release name of which version 1 served and 2 serves, 3 is registered, and 4 is nobody's."""

    world: World
    settled: list[list[str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        for mark in range(3):
            self.world.release(float(mark))
        self.world.made_by_hand()
        self.world.promote(1)
        self.world.promote(2)
        settings = Settings(home=self.world.folder, mlflow_tracking_uri=self.world.server)
        self.watch = Watch(settings, self._settle, self.said.append, lambda: self.now)
        self.rounds()

    def _settle(self, name: str) -> bool:
        self.settled.append(reconcile(self.world.registry, name))
        return True

    def rounds(self) -> None:
        """Two: the second sees that what the first did is in step."""
        for _ in range(2):
            assert self.watch.round() is None

    def stage(self, version: int, *, archive: bool) -> None:
        client = self.world.registry.client
        client.transition_model_version_stage(self.world.name, str(version), "Production", archive)

    def alias(self, version: int) -> None:
        self.world.registry.client.set_registered_model_alias(self.world.name, "champion", str(version))

    def alerts_owed(self) -> list[str]:
        ledger, name = self.world.registry.ledger, self.world.name
        owed = unsaid(name, ledger.read(promotions.stream(name)), ledger.read(f"alerts/{name}"))
        return [one.subject for one in owed]


@pytest.fixture
def watched(server: str, tmp_path: Path, request: pytest.FixtureRequest) -> Watched:
    return Watched(World(server, tmp_path, f"h-{abs(hash((request.node.name, str(tmp_path)))) % 10**10}"))


def test_where_nothing_was_moved_nothing_is_settled_and_nothing_written(watched: Watched) -> None:
    before = watched.world.registry.ledger.read(promotions.stream(watched.world.name))
    watched.rounds()

    assert (watched.settled, watched.said) == ([], [])
    assert watched.world.registry.ledger.read(promotions.stream(watched.world.name)) == before
    assert watched.world.serves_consistently() == 2


def test_promotions_of_ours_are_no_hands(watched: Watched) -> None:
    watched.world.promote(3)
    watched.rounds()
    watched.world.back_from(3)
    watched.rounds()

    assert (watched.settled, watched.said) == ([], [])
    assert watched.world.serves_consistently() == 2


@pytest.mark.parametrize("version", [1, 3])
def test_an_alias_set_by_hand_takes_the_stage_with_it(watched: Watched, version: int) -> None:
    watched.alias(version)
    watched.rounds()

    assert len(watched.settled) == 1
    assert watched.world.serves_consistently() == version
    last = changes(watched.world.registry.ledger, watched.world.name)[-1]
    assert (last.before, last.after, last.outside, last.who) == (2, version, True, "outside")
    assert watched.alerts_owed() == []


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("version", [1, 3])
def test_a_stage_set_by_hand_takes_the_alias_with_it(watched: Watched, version: int, archive: bool) -> None:
    watched.stage(version, archive=archive)
    watched.rounds()

    assert len(watched.settled) == 1
    assert watched.world.serves_consistently() == version
    last = changes(watched.world.registry.ledger, watched.world.name)[-1]
    assert (last.before, last.after, last.outside, last.why) == (2, version, True, "stage moved in MLflow")


@pytest.mark.parametrize("half", ["alias", "stage"])
def test_what_did_not_pass_is_put_back_and_an_alert_is_owed_once(watched: Watched, half: str) -> None:
    if half == "alias":
        watched.alias(4)
    else:
        watched.stage(4, archive=True)
        assert follow.current_champion(watched.world.server, watched.world.name) == 2  # what the service follows
    watched.rounds()

    assert "put back to 2" in watched.settled[0][0]
    assert watched.world.serves_consistently() == 2
    (subject,) = watched.alerts_owed()
    assert subject.startswith("version 4 was put in Production by hand in MLflow and is not served; version 2 serves")
    watched.stage(4, archive=True)
    watched.rounds()
    assert watched.world.serves_consistently() == 2
    assert watched.alerts_owed() == [subject]


def test_a_signed_release_of_another_ledger_serves_only_where_the_recipe_allows_it(watched: Watched) -> None:
    world = watched.world
    elsewhere = replace(world.registry, ledger=Ledger(f"sqlite:///{world.folder / 'elsewhere.db'}"))
    foreign = register(elsewhere, world.submission(7.0))
    watched.stage(foreign, archive=True)
    watched.rounds()
    assert world.serves_consistently() == 2

    allowance.allow(world.registry.ledger, world.name, True, "test")
    watched.stage(foreign, archive=True)
    watched.rounds()
    assert world.serves_consistently() == foreign
    watched.stage(4, archive=True)  # signed by nobody
    watched.rounds()
    assert world.serves_consistently() == foreign


def test_a_champion_that_is_deleted_is_owed_an_alert_and_the_watch_goes_on(watched: Watched) -> None:
    watched.world.registry.client.delete_model_version(watched.world.name, "2")
    for _ in range(3):
        watched.rounds()
    assert len(watched.settled) == 2  # the second time nothing is new, and it is remembered
    (subject,) = watched.alerts_owed()
    assert subject.startswith("nothing is champion: version 2 was taken away")

    watched.stage(3, archive=True)
    watched.rounds()
    assert follow.current_champion(watched.world.server, watched.world.name) == 3
    assert watched.world.stages("Production") == [3]


def test_the_look_over_rest_shows_what_mlflows_client_shows_and_changes_with_either_half(watched: Watched) -> None:
    world = watched.world
    client = world.registry.client
    seen = [glance(world.server, world.name)]
    assert glance(world.server, world.name) == seen[0]
    acts = (
        lambda: watched.stage(1, archive=False),  # a lower version beside the champion
        lambda: client.transition_model_version_stage(world.name, "2", "Archived"),
        lambda: watched.alias(3),
        lambda: client.delete_registered_model_alias(world.name, "champion"),
        lambda: client.delete_model_version(world.name, "1"),
    )
    for act in acts:
        act()
        seen.append(glance(world.server, world.name))
        assert seen[-1] != seen[-2]
        assert shown(world.server, world.name) == as_shown(client, world.name)
    assert glance(world.server, "no-such-name") == Glance()
    assert shown(world.server, "no-such-name").stages == {}
    with pytest.raises(RegistryError, match="does not answer"):
        glance("http://127.0.0.1:9", world.name)


def test_a_new_release_is_watched_soon(watched: Watched) -> None:
    other = World(watched.world.server, watched.world.folder, f"{watched.world.name}-b")
    other.release(9.0)
    other.registry.client.set_registered_model_alias(other.name, "champion", "1")
    watched.now += NAMES_S
    watched.rounds()

    assert other.serves_consistently() == 1
