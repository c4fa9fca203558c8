"""Switches that keep every dependency from reporting home; they are part of the environment of every process."""

from __future__ import annotations

TELEMETRY_OFF: dict[str, str] = {
    # Read by Prefect's SDK (1/true/yes), Evidently (any value) and many others.
    "DO_NOT_TRACK": "1",
    # Prefect's server heartbeat is a switch of its own; DO_NOT_TRACK does not reach it.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # openvino_telemetry (OpenVINO, NNCF) sends unless a consent file says no and has no variable of its own; both
    # callers pass disable_in_ci=True, so one of the CI variables it knows is the only switch that leaves the
    # user's home folder alone.
    "TF_BUILD": "telemetry-off",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
