"""What `make run` prints at the end: a table, addresses, a curl line, and one JSON object as the last line."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tasks.bench import AS_ML
from trimtab.data import load_split
from trimtab.verify.words import smaller

if TYPE_CHECKING:
    from deployments.demo.loop import Loop


def show(loop: Loop) -> None:
    """Measure the recovery on rows nothing was trained, gated or judged on, and print everything."""
    done = loop.done
    first, second = done["release"], done["reaction"]
    if "accuracy" not in done:
        clean, drifted = load_split(loop.code, "traffic-2"), load_split(loop.code, "traffic-2-drifted")
        done["accuracy"] = {
            "before": loop.offline(first["version"], clean),
            "drifted": loop.offline(first["version"], drifted),
            "after": done["recovered"]["accuracy"],
        }
    loop.console.rule("[bold]what came of it", align="left")
    loop.console.print(table(first, second, done["accuracy"]))
    addresses(loop)
    total = time.monotonic() - loop.begin
    loop.console.print(spent(loop.seconds, total))
    print(json.dumps(last_line(done, loop.seconds, total)), flush=True)


def last_line(done: dict[str, Any], seconds: dict[str, float], total: float) -> dict[str, Any]:
    """The figures of the run, for scripts."""
    traffic = [done[phase] for phase in ("healthy", "drifted", "recovered")]
    return {
        "seconds": round(total, 1),
        "overhead_seconds": round(total - sum(seconds.values()), 1),
        "failed_requests": sum(phase["failed"] for phase in traffic) + done["reaction"]["failed"],
        "verdicts": [phase["verdict"] for phase in traffic],
        "accuracy": {key: round(value, 4) for key, value in done["accuracy"].items()},
        "speedup_b1": round(done["release"]["speedup"], 2),
        "size_ratio": round(done["release"]["size_ratio"], 2),
        "versions": [done["release"]["version"], done["reaction"]["version"]],
    }


def table(first: dict[str, Any], second: dict[str, Any], accuracy: dict[str, float]) -> Table:
    """Both releases side by side."""
    shown = Table(title="digits, measured on the runtime that serves it", title_justify="left")
    shown.add_column("")
    for release in (first, second):
        shown.add_column(f"version {release['version']}")
    rows = [
        ("made by", lambda r: r["run_name"]),
        ("what it is", lambda r: f"{r['label']} on {r['target']}"),
        ("accuracy on the gate", lambda r: r["accuracy"]),
        ("difference from its original", lambda r: r["difference"]),
        ("size", lambda r: f"{r['size_bytes'] / 1024:.0f} KiB, {smaller(r['size_ratio'])}"),
        ("p50 / p99 at batch 1", lambda r: f"{r['p50_ms']:.3f} / {r['p99_ms']:.3f} ms"),
        ("speed-up on eager PyTorch", lambda r: f"{r['speedup']:.2f}x ({r['speedup_spread']})"),
    ]
    for title, value in rows:
        shown.add_row(title, value(first), value(second))
    shown.add_section()
    shown.add_row("unseen digits (traffic-2)", percent(accuracy["before"]), "")
    shown.add_row("the same, drifted", percent(accuracy["drifted"]), f"{percent(accuracy['after'])} as served")
    return shown


def percent(value: float) -> str:
    """0.934 → "93.4 %"."""
    return "—" if math.isnan(value) else f"{value:.1%}"


def addresses(loop: Loop) -> None:
    """Where to look, how to ask, how to stop."""
    known, name = loop.settings, loop.watch.name
    prefect = (known.prefect_api_url or "").removesuffix("/api")
    unseen = load_split(loop.code, "traffic-2")
    digit, label = unseen.inputs["input"][:1], int(unseen.labels[0])
    row = json.dumps({"instances": digit.astype(int).tolist()}, separators=(",", ":"))
    print_plain = loop.console.print
    print_plain(f"Prefect UI      {prefect}  (flows, schedules, automations, artifacts)")
    for what, url in mlflow_pages(known.tracking_uri(), name).items():
        print_plain(f"{what:<16}{url}")
    print_plain(f"Evidently UI    {known.evidently_url}  (one snapshot a window)")
    print_plain(f"scoring         {loop.url}  (/invocations, /version, /metrics, /reports/)")
    print_plain(
        f"try it          curl -s {loop.url}/invocations -H 'Content-Type: application/json' -d '{row}'", markup=False
    )
    print_plain(
        f"                answers {label}: the digit is a {label}, so that probability (counted from 0) is the largest"
    )
    print_plain("stop            make down")


def mlflow_pages(tracking_uri: str, name: str) -> dict[str, str]:
    """Addresses of the runs and of the registered model in MLflow's UI."""
    from trimtab.registry.connection import mlflow_client, mlflow_errors

    with mlflow_errors(f"experiment {name}"):
        found = mlflow_client(tracking_uri).get_experiment_by_name(name)
    runs = f"/experiments/{found.experiment_id}/runs" if found else "/experiments"
    return {
        "MLflow runs": f"{tracking_uri}/#{runs}{AS_ML}",
        "MLflow model": f"{tracking_uri}/#/models/{name}{AS_ML}",
    }


def spent(seconds: dict[str, float], total: float) -> str:
    """Where the time went."""
    parts = ", ".join(f"{kind} {value:.1f} s" for kind, value in seconds.items())
    return f"time            {total:.1f} s: {parts}, everything else {total - sum(seconds.values()):.1f} s"
