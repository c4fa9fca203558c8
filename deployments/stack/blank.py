"""The empty Prefect database that a new state directory starts from.

A Prefect server runs all its migrations on an empty database at its first start: two thirds of the
time until it answers. They give the same database every time, so an environment keeps one, made once
(`python -m deployments.stack.blank`) by Prefect's own command. Where there is none, the server migrates as ever.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from deployments.stack.services import PYTHON
from deployments.telemetry import TELEMETRY_OFF
from trimtab.settings import Settings

DATABASE = "prefect.db"  # Prefect's own name for it, in its home


def blank() -> Path:
    """Where this environment keeps it; a database of another version is not looked at."""
    return Path(sys.prefix) / "share" / "trimtab" / f"prefect-{version('prefect')}.db"


def lay_out(settings: Settings) -> None:
    """Copy the blank database to a state directory that has none; never over one."""
    here, wanted = blank(), settings.home / "prefect" / DATABASE
    if here.is_file() and not wanted.exists():
        half = wanted.with_suffix(".half")
        shutil.copyfile(here, half)
        half.replace(wanted)


def make() -> Path:
    """Migrate an empty database and keep it; one that is there already is kept."""
    kept = blank()
    if kept.is_file():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        database = Path(folder) / DATABASE
        # Without the caller's settings: one of them may name a database that is somebody's.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        address = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}"}
        around = {**clean, **TELEMETRY_OFF, "PREFECT_HOME": folder, **address}
        command = [*PYTHON, "-m", "prefect", "server", "database", "upgrade", "--yes"]
        subprocess.run(command, env=around, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        left = [path.name for path in Path(folder).glob(f"{DATABASE}-*")]
        if left:
            raise SystemExit(f"the database is not whole without {left}")
        database.replace(kept)
    return kept


if __name__ == "__main__":
    print(make())
