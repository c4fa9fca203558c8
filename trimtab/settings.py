"""Where things are: the state directory and the addresses of the servers.

Order of precedence: environment (`TRIMTAB_HOME`, `TRIMTAB_MLFLOW_TRACKING_URI`, …), then the addresses that
`trimtab up` wrote to `<home>/stack.json`, then nothing (an address stays None: the caller says what to start).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict

from trimtab.errors import StateError

STATE_FOLDER = ".trimtab"
STACK_FILE = "stack.json"


def find_home(start: Path | None = None) -> Path:
    """The nearest `.trimtab` folder from `start` (default: working directory) upwards, else one in the user's home."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / STATE_FOLDER).is_dir():
            return folder / STATE_FOLDER
    return Path.home() / STATE_FOLDER


class Settings(BaseSettings):
    """Addresses and folders; a value, read once at the door and passed on.

    Attributes:
        home: the state directory; everything that is written lies below it.
        prefect_api_url: e.g. http://127.0.0.1:4200/api
        mlflow_tracking_uri: e.g. http://127.0.0.1:5000; registry and tracking are the same server.
        scoring: release name → address of the service that serves it, e.g. {"digits": "http://127.0.0.1:8080"}
        scoring_certificates: release name → certificate of that service, where it is one of ours with TLS.
        evidently_url: e.g. http://127.0.0.1:8000
        ledger_url: SQLAlchemy URL of the ledger; default SQLite in the state directory.
    """

    model_config = SettingsConfigDict(env_prefix="TRIMTAB_", extra="ignore", frozen=True)

    home: Path
    prefect_api_url: str | None = None
    mlflow_tracking_uri: str | None = None
    scoring: dict[str, str] = {}
    scoring_certificates: dict[str, str] = {}
    evidently_url: str | None = None
    ledger_url: str | None = None

    @classmethod
    def load(cls, home: Path | None = None) -> Settings:
        """Read the environment and `<home>/stack.json`.

        Raises:
            StateError: stack.json is not readable JSON.
        """
        home = Path(home or os.environ.get("TRIMTAB_HOME") or find_home()).expanduser().resolve()
        written = _read_stack(home / STACK_FILE)
        known = {
            key: value
            for key, value in written.items()
            if key in cls.model_fields and f"TRIMTAB_{key.upper()}" not in os.environ
        }
        return cls(**{**known, "home": home})

    @property
    def ledger(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.ledger_url or f"sqlite:///{self.home / 'ledger.db'}"

    @property
    def store(self) -> Path:
        """Content-addressed files of candidates."""
        return self.home / "store"

    @property
    def studies(self) -> Path:
        """Searches, one Optuna journal file a study."""
        return self.home / "studies"

    @property
    def journal(self) -> Path:
        """What was asked and answered, one folder a release name."""
        return self.home / "journal"

    def challenger_journal(self, name: str) -> Path:
        """What challengers of a release name answered; apart from `journal`, whose windows are of one version."""
        return self.journal / f"{name}@challenger"  # "@" is in no release name

    @property
    def comparisons(self) -> Path:
        """What challengers showed against champions, one folder a release name."""
        return self.home / "comparisons"

    @property
    def journal_salt(self) -> Path:
        """Key of the hashes that the journal holds in place of inputs; its owner's alone."""
        return self.home / "journal-salt"

    @property
    def reports(self) -> Path:
        """HTML reports, served by the scoring service under /reports."""
        return self.home / "reports"

    @property
    def evidently(self) -> Path:
        """Evidently workspace."""
        return self.home / "evidently"

    @property
    def locks(self) -> Path:
        """OS lock files (flock)."""
        return self.home / "locks"

    @property
    def signing_keys(self) -> Path:  # not "keys": dict() would take the settings for a mapping, and Prefect calls it
        """Keys that sign releases, and the public ones that are trusted; the folder is its owner's alone."""
        return self.home / "keys"

    @property
    def logs(self) -> Path:
        """One log a service."""
        return self.home / "logs"

    def scoring_for(self, name: str) -> str | None:
        """Address of the service that serves a release, None if there is none."""
        return self.scoring.get(name)

    def tracking_uri(self) -> str:
        """Address of MLflow, or a message that says how to start one.

        Raises:
            StateError: no MLflow server is known.
        """
        if not self.mlflow_tracking_uri:
            raise StateError(
                "no MLflow server is known",
                where=str(self.home),
                fix="start the local servers with `trimtab up`, or set TRIMTAB_MLFLOW_TRACKING_URI",
            )
        return self.mlflow_tracking_uri

    def ensure_home(self) -> Settings:
        """Create the state directory and see that it can be written.

        Raises:
            StateError: it cannot be created or written.
        """
        probe = self.home / f".write-probe-{os.getpid()}"
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StateError(
                f"the state directory cannot be written ({error.strerror})",
                where=str(self.home),
                fix="choose another one with TRIMTAB_HOME or --home, or mend its permissions",
            ) from None
        return self


def _read_stack(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StateError(
            f"cannot be read: {error}", where=str(path), fix="run `trimtab down`, then `trimtab up`"
        ) from None
