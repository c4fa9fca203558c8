"""Closed loop: wrk keeps a fixed number of connections busy, one request each at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 8
# Requests take the bodies in turns. The summary goes to standard output as one JSON object.
SCRIPT = """\
local requests, at = {}, 0
function init(args)
  for _, path in ipairs({%(paths)s}) do
    local file = assert(io.open(path, "rb"))
    requests[#requests + 1] = wrk.format("POST", nil, {%(headers)s}, file:read("*all"))
    file:close()
  end
end
function request()
  at = at %% #requests + 1
  return requests[at]
end
function done(summary, latency, requests)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format('\\n{"requests": %%d, "seconds": %%f, "p50_ms": %%f, "p99_ms": %%f, ',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
  io.write(string.format('"bad_status": %%d, "broken": %%d}\\n', errors.status, broken))
end
"""


@dataclass(frozen=True)
class Load:
    """What wrk saw: answered requests, a second and in all, and latencies in milliseconds."""

    requests: int
    req_s: float
    p50_ms: float
    p99_ms: float


def refuse_without_wrk() -> None:
    """See that the load generator is installed.

    Raises:
        SystemExit: it is not.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("needs wrk, the load generator; Debian/Ubuntu: apt-get install wrk")


def load(
    url: str, bodies: list[Path], headers: Mapping[str, str], seconds: float, cpus: set[int], scratch: Path
) -> Load:
    """Load a server for a while.

    Args:
        bodies: files, sent in turns. cpus: what wrk may run on. scratch: folder for its script.

    Raises:
        SystemExit: a request was answered with an error, or not at all.
    """
    script = scratch / "requests.lua"
    paths = ", ".join(json.dumps(str(path.resolve())) for path in bodies)
    pairs = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items())
    script.write_text(SCRIPT % {"paths": paths, "headers": pairs})
    command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds:.0f}s"]
    command += ["--timeout", "30s", "--script", str(script), url]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=lambda: os.sched_setaffinity(0, cpus)
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise SystemExit(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
    seen = json.loads(lines[-1])
    if seen["bad_status"] or seen["broken"] or not seen["requests"]:
        raise SystemExit(f"{url} did not answer every request: {seen}")
    return Load(seen["requests"], seen["requests"] / seen["seconds"], seen["p50_ms"], seen["p99_ms"])
