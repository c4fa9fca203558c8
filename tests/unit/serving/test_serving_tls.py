"""TLS at the door, and how our own programs know the certificate."""

from __future__ import annotations

import argparse
import logging
import ssl
from pathlib import Path

import pytest
from certificates import make

from trimtab.asking import kept_token, own_token, pinned, scoring_client, token_file
from trimtab.errors import StateError
from trimtab.serving.options import add_options, is_loopback, read_options
from trimtab.serving.tls import Tls, checked
from trimtab.settings import Settings


def test_a_certificate_and_its_key_pass(tmp_path: Path, caplog) -> None:
    certificate, key = make(tmp_path)
    assert checked(certificate, key) == Tls(certificate, key)
    assert caplog.text == ""


def test_each_way_of_being_unusable_is_told_with_its_cause(tmp_path: Path) -> None:
    certificate, key = make(tmp_path / "one")
    _, other = make(tmp_path / "two")
    _, encrypted = make(tmp_path / "three", password=b"secret")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nothing")
    nonsense.chmod(0o600)
    for files, said in {
        (tmp_path / "none.pem", key): "no such file",
        (certificate, tmp_path / "none.pem"): "no such file",
        (certificate, other): "is not the key of",
        (certificate, encrypted): "is encrypted",
        (certificate, nonsense): "cannot be read",
        (nonsense, key): "cannot be read",
    }.items():
        with pytest.raises(StateError, match=said):
            checked(*files)
    key.chmod(0o640)
    with pytest.raises(StateError, match="others can read it"):
        checked(certificate, key)


@pytest.mark.parametrize("days", [-1, 5])
def test_a_certificate_that_ends_soon_or_did_is_logged_and_taken(tmp_path: Path, caplog, days: float) -> None:
    checked(*make(tmp_path, days=days))
    assert "ends on" in caplog.text


def options(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(list(given))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "score.example"])
def test_beyond_this_machine_a_service_wants_auth_or_to_be_told_that_it_is_meant(host: str, caplog) -> None:
    with pytest.raises(StateError, match="would answer everybody") as caught:
        read_options(options("--host", host))
    assert "--auth" in caught.value.fix
    with caplog.at_level(logging.WARNING):
        read_options(options("--host", host, "--without-auth"))
        assert f"whoever reaches {host}" in caplog.text
        read_options(options("--host", host, "--auth"))
        assert "who listens on the way" in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_loopback_nothing_has_to_be_said(host: str, caplog) -> None:
    assert is_loopback(host)
    assert read_options(options("--host", host)).place.auth is False
    assert caplog.text == ""


@pytest.mark.parametrize(
    "given",
    [("--tls-key", "k.pem"), ("--tls-certificate", "c.pem"), ("--auth", "--without-auth"), ("--journal", "{"),
     ("--journal", '{"inputs": "some"}')],
)  # fmt: skip
def test_options_that_cannot_be_meant_are_refused(given: tuple[str, ...]) -> None:
    with pytest.raises(StateError, match=given[0]):
        read_options(options(*given))


def handshake(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """A whole TLS handshake in memory, of a client with `context` and a server with the files."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate, key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    server = served.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    for _ in range(10):
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
        if len(done) == 2:
            return
    raise AssertionError("no handshake")


def test_our_programs_trust_the_certificate_of_the_service_whatever_name_is_in_it_and_no_other(tmp_path: Path) -> None:
    certificate, key = make(tmp_path / "ours")
    other, other_key = make(tmp_path / "other")
    handshake(pinned(certificate), certificate, key)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(pinned(certificate), other, other_key)


def test_what_stands_behind_the_certificate_in_its_file_is_not_trusted(tmp_path: Path) -> None:
    certificate, _ = make(tmp_path / "ours")
    authority, authority_key = make(tmp_path / "authority")
    certificate.write_bytes(certificate.read_bytes() + authority.read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(pinned(certificate), authority, authority_key)


def test_a_certificate_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for path in (tmp_path / "empty.pem", tmp_path / "none.pem"):
        with pytest.raises(StateError, match="is no certificate"):
            pinned(path)


def test_a_client_of_ours_carries_the_token_of_the_environment_or_of_the_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("TRIMTAB_TOKEN", raising=False)
    settings = Settings(home=tmp_path, scoring={"digits": "http://127.0.0.1:8080"})
    assert "authorization" not in scoring_client(settings, "digits").headers
    token_file(settings).write_text("tt_kept\n")
    token_file(settings).chmod(0o600)
    assert scoring_client(settings, "digits").headers["authorization"] == "Bearer tt_kept"
    monkeypatch.setenv("TRIMTAB_TOKEN", "tt_given")
    assert own_token(settings) == "tt_given"
    assert kept_token(settings) == "tt_kept"
    assert scoring_client(settings, "digits").headers["authorization"] == "Bearer tt_given"
    monkeypatch.delenv("TRIMTAB_TOKEN")
    token_file(settings).chmod(0o644)
    with pytest.raises(StateError, match="others can read it"):
        scoring_client(settings, "digits")
    with pytest.raises(StateError, match="no scoring service"):
        scoring_client(settings, "other")
