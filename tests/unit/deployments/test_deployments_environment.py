"""The environment of every process: telemetry off, everything written below the state directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.environment import PACKAGE_ROOT, environment
from deployments.telemetry import TELEMETRY_OFF
from trimtab.settings import Settings


def test_telemetry_is_off_and_prefect_writes_below_the_state_directory(tmp_path: Path) -> None:
    found = environment(Settings(home=tmp_path))

    assert found.items() >= TELEMETRY_OFF.items()
    for name in ("PREFECT_HOME", "PREFECT_SERVER_UI_STATIC_DIRECTORY", "PREFECT_RESULTS_LOCAL_STORAGE_PATH"):
        assert Path(found[name]).is_relative_to(tmp_path)


def test_an_address_that_is_not_known_is_left_out(tmp_path: Path) -> None:
    known = Settings(home=tmp_path, prefect_api_url="http://127.0.0.1:4200/api", mlflow_tracking_uri=None)
    found = environment(known)

    assert found["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert "MLFLOW_TRACKING_URI" not in found


def test_prefect_and_the_telemetry_of_others_read_these_names(tmp_path: Path) -> None:
    """In a fresh process: Prefect's settings and the opt-out switches of the libraries themselves."""
    code = """
from prefect.settings import get_current_settings
from prefect._internal.analytics.enabled import is_telemetry_enabled
from openvino_telemetry.utils.opt_in_checker import OptInChecker, ConsentCheckResult
now = get_current_settings()
assert not now.server.analytics_enabled and not is_telemetry_enabled()
assert OptInChecker().check(False, True) == ConsentCheckResult.DECLINED
assert now.worker.query_seconds == 2 and now.worker.prefetch_seconds == 0
assert now.flows.heartbeat_frequency == 30 and not now.server.ephemeral.enabled
assert now.server.services.scheduler.min_scheduled_time.total_seconds() == 300
assert now.server.concurrency.lease_storage.endswith("filesystem")
assert now.runner.auto_install_dependencies is False
assert str(now.results.local_storage_path).startswith(str(now.home))
"""
    around = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
        **environment(Settings(home=tmp_path)),
    }
    done = subprocess.run([sys.executable, "-c", code], env=around, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_loopback_is_reached_without_the_proxy_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "intranet.example")

    assert environment(Settings(home=tmp_path))["NO_PROXY"] == "intranet.example,127.0.0.1,localhost"


def test_our_packages_come_before_what_the_user_has_on_the_python_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"/theirs{os.pathsep}{PACKAGE_ROOT}")

    assert environment(Settings(home=tmp_path))["PYTHONPATH"].split(os.pathsep) == [str(PACKAGE_ROOT), "/theirs"]
