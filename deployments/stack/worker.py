"""`python -m deployments.stack.worker`: the Prefect worker, once the server answers and old runs are settled."""

from __future__ import annotations

import os
import signal
import sys
import time

import httpx

from deployments.stack.health import client
from deployments.stack.services import POOL
from trimtab.settings import Settings

WAIT_S = 300.0


def main() -> None:
    """Import Prefect while its server starts, wait, settle, and become the worker.

    Raises:
        SystemExit: the server does not answer; the supervisor tries again.
    """
    # A process started in the background by a shell inherits "ignore SIGINT", and Prefect's worker turns the first
    # SIGTERM into SIGINT: without this it would not stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    from prefect.cli import app

    from deployments.prefect_api import prefect_client
    from deployments.stack.runs import crash_lost, ensure_pool, skip_missed

    _wait_for_server(os.environ["PREFECT_API_URL"])
    settings = Settings.load().model_copy(update={"prefect_api_url": os.environ["PREFECT_API_URL"]})
    with prefect_client(settings) as prefect:
        ensure_pool(prefect)
    crashed, skipped = crash_lost(settings), skip_missed(settings)
    sys.stdout.write(f"runs marked as crashed: {len(crashed)}, missed runs skipped: {len(skipped)}\n")
    sys.stdout.flush()
    sys.argv = ["prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", "local"]
    app()


def _wait_for_server(api: str) -> None:
    deadline = time.monotonic() + WAIT_S
    with client() as http:
        while time.monotonic() < deadline:
            try:
                if http.get(f"{api}/health").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
    raise SystemExit(f"the Prefect server at {api} did not answer within {WAIT_S:.0f} s")


if __name__ == "__main__":
    main()
