"""Where the state is, and what is said when it cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from trimtab.errors import StateError
from trimtab.settings import Settings, find_home


def test_the_nearest_state_folder_upwards_is_found(tmp_path: Path):
    (tmp_path / ".trimtab").mkdir()
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert find_home(tmp_path / "a" / "b") == tmp_path / ".trimtab"


def test_addresses_come_from_the_stack_file_and_the_environment_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "stack.json").write_text(
        '{"mlflow_tracking_uri": "http://a", "prefect_api_url": "http://b", "scoring": {"x": "http://c"}, "pid": 3}'
    )
    monkeypatch.setenv("TRIMTAB_MLFLOW_TRACKING_URI", "http://elsewhere")
    settings = Settings.load(tmp_path)
    assert settings.tracking_uri() == "http://elsewhere"
    assert settings.prefect_api_url == "http://b"
    assert settings.scoring_for("x") == "http://c"
    assert settings.scoring_for("y") is None


def test_without_servers_the_message_says_how_to_start_them(tmp_path: Path):
    with pytest.raises(StateError, match="trimtab up"):
        raise_with_text(Settings(home=tmp_path))


def raise_with_text(settings: Settings) -> None:
    """The message with its fix, as a user sees it."""
    try:
        settings.tracking_uri()
    except StateError as error:
        raise StateError(str(error)) from None


def test_a_state_directory_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StateError, match="cannot be written") as caught:
        Settings(home=tmp_path / "file" / "home").ensure_home()
    assert str(tmp_path / "file") in str(caught.value)
    assert "TRIMTAB_HOME" in str(caught.value)


def test_a_broken_stack_file_is_no_traceback(tmp_path: Path):
    (tmp_path / "stack.json").write_text("{half")
    with pytest.raises(StateError, match="cannot be read"):
        Settings.load(tmp_path)


def test_settings_become_a_dict_of_their_fields_as_prefect_needs_it(tmp_path: Path) -> None:
    assert dict(Settings(home=tmp_path))["home"] == tmp_path
