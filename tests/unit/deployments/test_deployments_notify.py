"""Whom alerts reach: each kind of block sends to a real receiver on loopback what a person needs; no secret leaks."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_string, policy
from typing import Any
from uuid import uuid4

import httpx
import pytest
from receivers import Mails, json_receiver, mailbox

from deployments.notify import address, mail, notification, webhook
from trimtab.errors import StateError
from trimtab.recipe.policy import Email

SUBJECT, BODY = "digits: drift: input[3] drifted", 'rows 0–200\n- p = 1e-9 "quoted"\nhttp://127.0.0.1/reports/x.html'


@pytest.fixture
def posted() -> Iterator[tuple[str, list[Any]]]:
    with json_receiver() as receiver:
        yield receiver


@pytest.fixture
def mails() -> Iterator[tuple[str, Mails]]:
    with mailbox() as receiver:
        yield receiver


def test_a_webhook_is_sent_subject_and_body_as_json(posted: tuple[str, list[Any]]) -> None:
    where, came = posted
    webhook("webhook", "digits", where).notify(subject=SUBJECT, body=BODY)

    assert came == [{"subject": SUBJECT, "body": BODY}]


def test_slack_is_sent_the_text_that_its_incoming_webhooks_take(posted: tuple[str, list[Any]]) -> None:
    where, came = posted
    webhook("slack", "digits", where).notify(subject=SUBJECT, body=BODY)

    assert came == [{"text": f"*{SUBJECT}*\n{BODY}"}]


def test_a_mail_reaches_everybody_with_subject_and_evidence(mails: tuple[str, Mails]) -> None:
    where, came = mails
    wanted = Email(server="SMTP", sender="trimtab@example.org", to=["ops@example.org", "ml@example.org"])
    mail(wanted, where).notify(subject=SUBJECT, body=BODY)

    everybody = " ".join(text for word, text in came if word == "RCPT")
    assert "ops@example.org" in everybody
    assert "ml@example.org" in everybody
    assert any("trimtab@example.org" in text for word, text in came if word == "MAIL")
    message = message_from_string(next(text for word, text in came if word == "DATA"), policy=policy.default)
    assert message["Subject"] == SUBJECT
    assert "p = 1e-9" in message.get_body(("plain", "html")).get_content()  # type: ignore[union-attr]


def test_a_receiver_that_is_gone_is_an_error_and_not_silence() -> None:
    with pytest.raises(httpx.HTTPError):
        webhook("webhook", "digits", "http://127.0.0.1:9/hook").notify(subject=SUBJECT, body=BODY)


def test_the_address_is_a_secret_of_the_block() -> None:
    block = webhook("slack", "digits", "https://hooks.example.org/T0/B0/hush")
    server = mail(Email(server="SMTP", sender="a@b.org", to=["c@d.org"]), "smtps://me:p%40ss@mail.example.org:465")

    assert "hush" not in repr(block)
    assert "hush" not in block.model_dump_json()
    assert "p%40ss" not in repr(server)
    assert server.url.get_secret_value().startswith("mailtos://me:p%40ss@mail.example.org:465/?from=a%40b.org")


def test_a_variable_that_is_not_set_or_holds_no_address_is_an_error_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    with pytest.raises(StateError, match="not set") as unset:
        address("webhook", "HOOK")
    assert "HOOK" in str(unset.value)
    monkeypatch.setenv("HOOK", "ftp://hush@example.org")
    with pytest.raises(StateError, match="begins with http://") as wrong:
        address("webhook", "HOOK")
    assert "hush" not in str(wrong.value)
    monkeypatch.setenv("HOOK", " smtp+starttls://mail.example.org ")
    assert address("email", "HOOK") == "smtp+starttls://mail.example.org"


def test_the_automation_sends_every_written_alert_of_its_release_through_every_block() -> None:
    one, two = uuid4(), uuid4()
    found = notification("digits", {"slack": one, "email": two})

    assert found.trigger.model_dump()["expect"] == {"trimtab.alert"}
    assert [action.model_dump()["block_document_id"] for action in found.actions] == [one, two]
