"""One job in a worker environment: a script, a folder with its inputs, a status as JSON on the last line it prints.

No pickles go either way: what is exchanged are files of the formats themselves (.pt2, .onnx, .npz) and JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from trimtab.errors import ConversionError

JOBS = Path(__file__).with_name("jobs")
# Nothing in a worker may ask the network, and a GPU has no part in a conversion.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "",
}
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS", "LD_LIBRARY_PATH", "SSL_CERT_FILE")


def worker_env(home: Path) -> dict[str, str]:
    """The environment variables of a worker: few of ours, none of Python's, a home of its own."""
    return {**{key: os.environ[key] for key in KEPT if key in os.environ}, **QUIET, "HOME": str(home)}


def run_job(interpreter: Path, script: Path, folder: Path, limit_s: float, where: str) -> dict[str, Any]:
    """Run a script of a worker on a folder, and give the status it printed.

    Args:
        interpreter: of the worker environment.
        script: one of `jobs`; it is called with the folder as its only argument.
        folder: what it reads and writes.
        limit_s: seconds it may take; then it and what it started are killed.
        where: the target, for messages.

    Returns:
        The JSON object on the last line of its standard output, without "ok".

    Raises:
        ConversionError: it says so itself ({"ok": false, "error": …}), it printed no status, or it took too long; the
            message has the end of its standard error.
    """
    with tempfile.TemporaryDirectory(prefix="trimtab-worker-") as home, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            # Isolated: no PYTHONPATH, no user's packages, nothing from the working directory.
            [str(interpreter), "-I", str(script), str(folder)],
            env=worker_env(Path(home)),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise _failed(f"was not done after {limit_s:g} s", end_of(log), where) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        status = _status(printed)
        if status is None:
            raise _failed(f"ended with code {process.returncode} and without a status", end_of(log), where)
        if not status.pop("ok", False):
            raise _failed(f"failed: {status.get('error', '')}", "", where)
    return status


def end_of(log: Any, size: int = 2000) -> str:
    """The end of what a process wrote to an open file."""
    log.seek(0)
    return str(log.read()[-size:].decode("utf-8", "replace")).strip()


def _status(printed: bytes) -> dict[str, Any] | None:
    lines = printed.decode("utf-8", "replace").strip().splitlines()
    try:
        status = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return status if isinstance(status, dict) else None


def _failed(what: str, log: str, where: str) -> ConversionError:
    return ConversionError(
        f"the converter {what}" + (f"; its last words: {log}" if log else ""),
        where=where,
        fix="replace the operation it names, or take the target out of `targets`",
    )
