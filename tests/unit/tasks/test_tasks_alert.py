"""An alert is in the ledger once it was shown, and then is not shown again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from tasks import alert
from trimtab.ledger import Ledger
from trimtab.monitoring.policy import about
from trimtab.settings import Settings


def test_an_alert_that_could_not_be_shown_is_tried_again_and_one_that_was_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path)
    shown: list[Any] = []

    def artifact(**facts: Any) -> None:
        shown.append(facts)
        if len(shown) == 1:
            raise ConnectionError("Prefect does not answer")

    monkeypatch.setattr(alert, "create_markdown_artifact", artifact)

    def write() -> None:
        with disable_run_logger():
            alert.write_alert.fn(settings, "digits", "drift: …", about("abc"))

    with pytest.raises(ConnectionError):
        write()
    assert Ledger(settings.ledger).read("alerts/digits") == []
    write()
    write()
    assert len(Ledger(settings.ledger).read("alerts/digits")) == 1
    assert len(shown) == 2
    assert (tmp_path / "alerts.log").read_text().count(about("abc")) == 2  # once for each try
