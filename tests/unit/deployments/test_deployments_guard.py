"""How `trimtab up` guards a service: by the recipe, remembered, told on the command line, with a token for us."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments.stack.guard import Guard
from deployments.stack.own_token import keep_own_token
from deployments.stack.ports import Ports, choose, with_backend, with_guard, with_pin
from deployments.stack.record import read_ports, write_ports
from deployments.stack.services import addresses, services
from trimtab.asking import token_file
from trimtab.errors import StateError
from trimtab.recipe.load import parse_recipe
from trimtab.serving.options import add_options
from trimtab.serving.tokens import SCOPES, TokenFile, Tokens
from trimtab.settings import Settings

HEAD = "name: digits\nmodel: net:build\ndata: net:split\nserving: "
WHOLE = "{auth: true, tls: {certificate: c.pem, key: /k.pem}, journal: {inputs: sample, redact: [user]}}"


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    return Guard.of(parse_recipe(HEAD + WHOLE), tmp_path / "recipe.yaml")


def command(ports: Ports, home: Path) -> tuple[str, ...]:
    return next(s.command for s in services(Settings(home=home), ports) if s.name == "scoring-digits")


def test_a_recipe_says_how_its_service_is_guarded(guard: Guard, tmp_path: Path) -> None:
    assert (guard.auth, guard.certificate, guard.key) == (True, str(tmp_path / "c.pem"), "/k.pem")
    kept = {"inputs": "sample", "sample": 0.1, "redact": ["user"], "hash": [], "acknowledge": "written"}
    assert json.loads(guard.journal) == kept
    assert Guard.from_json(guard.to_json()) == guard


def test_the_service_understands_what_it_is_told(guard: Guard, tmp_path: Path) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_options(parser)
    told = parser.parse_args(list(guard.arguments))
    assert (told.auth, str(told.tls_certificate), str(told.tls_key)) == (True, guard.certificate, guard.key)
    assert told.journal == guard.journal
    assert parser.parse_args(list(Guard().arguments)).auth is False


def test_a_guard_is_remembered_with_the_ports_and_survives_new_ports(guard: Guard, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    write_ports(settings, with_guard(Ports(scoring={"digits": 8080}), "digits", guard))
    known = read_ports(settings)
    assert known is not None
    again = choose(known, ["digits"])
    for ports in (known, again):
        assert command(ports, tmp_path)[-len(guard.arguments) :] == guard.arguments
        assert addresses(ports)["scoring"]["digits"].startswith("https://127.0.0.1:")
        assert addresses(ports)["scoring_certificates"] == {"digits": guard.certificate}
    [service] = [s for s in services(settings, known) if s.name == "scoring-digits"]
    assert service.url.startswith("https://")


def test_a_stock_server_is_told_nothing_it_does_not_know(guard: Guard, tmp_path: Path) -> None:
    ports = with_backend(with_guard(Ports(scoring={"digits": 8080}), "digits", guard), "digits", "mlflow")
    assert "--auth" not in command(ports, tmp_path)
    assert addresses(ports)["scoring"] == {"digits": "http://127.0.0.1:8080"}
    assert Guard.of(parse_recipe(HEAD + "{backend: mlflow}"), tmp_path / "r.yaml") == Guard()


def test_the_addresses_say_nothing_of_certificates_where_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(json.dumps(addresses(Ports(scoring={"digits": 8080}))))
    found = Settings.load(tmp_path)
    assert found.scoring_certificates == {}
    assert found.scoring_for("digits") == "http://127.0.0.1:8080"


def test_a_certificate_that_is_not_there_is_told_before_anything_starts(guard: Guard) -> None:
    with pytest.raises(StateError, match=r"c\.pem: no such file"):
        guard.check()
    Guard(auth=True).check()


def test_our_own_token_is_made_once_and_again_when_it_was_revoked(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    keep_own_token(settings, Guard())
    assert not token_file(settings).exists()
    for _ in range(2):
        keep_own_token(settings, Guard(auth=True))
    file = TokenFile.of(settings)
    [token] = file.read()
    assert token.scopes == SCOPES
    assert token_file(settings).stat().st_mode & 0o077 == 0
    assert Tokens(file).find(token_file(settings).read_text()) == token
    file.revoke(token.id)
    keep_own_token(settings, Guard(auth=True))
    [other] = file.read()
    assert other.id != token.id
    assert Tokens(file).find(token_file(settings).read_text()) == other


def test_a_pinned_service_of_a_guarded_release_is_guarded_too(guard: Guard, tmp_path: Path) -> None:
    ports = with_guard(Ports(scoring={"digits": 8080, "old": 8081}), "digits", guard)
    for pin in ("digits/3", "digits@challenger"):
        pinned = with_pin(ports, "old", pin)
        found = {one.name: one.command for one in services(Settings(home=tmp_path), pinned)}
        assert "--auth" in found["scoring-old"]
        assert addresses(pinned)["scoring"]["old"].startswith("https://")
