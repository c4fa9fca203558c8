from __future__ import annotations

import subprocess
import sys

import pytest

from trimtab.monitoring.engine import TELEMETRY_OFF, evidently

IMPORT = """
import sys
import trimtab.monitoring, trimtab.monitoring.judge, trimtab.monitoring.evidently_report, trimtab.monitoring.policy
print(*sorted({"evidently", "pandas", "torch", "scipy", "pyarrow", "prefect", "mlflow"} & set(sys.modules)))
"""


def test_importing_the_room_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_evidently_is_used_with_its_telemetry_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TELEMETRY_OFF:
        monkeypatch.delenv(name, raising=False)
    evidently.cache_clear()
    evidently()
    from evidently.telemetry import event_logger

    assert not event_logger.is_enabled()
