"""`python -m deployments.stack.mlflow_server …`: `mlflow server …` in one process.

MLflow's own command checks its options, sets up its database and then starts uvicorn as a child. Everything is imported
a second time for it, and after `kill -9` of the command the child lives on and keeps the port, unsupervised.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import uvicorn  # before mlflow.server, which checks hosts only where a web server is imported already


def main() -> None:
    """MLflow's command with uvicorn in this process."""
    import mlflow.server
    from mlflow.cli import cli

    mlflow.server._exec_cmd = _serve_here  # type: ignore[assignment]
    cli(["server", *sys.argv[1:]])


def _serve_here(command: list[str], *, extra_env: dict[str, str], **_options: Any) -> NoReturn:
    """Instead of a child process with this command line and these variables."""
    if command[1:3] != ["-m", "uvicorn"]:
        raise SystemExit(f"this MLflow starts another web server than uvicorn: {command}")
    os.environ.update(extra_env)
    uvicorn.main(command[3:])
    raise SystemExit(0)


if __name__ == "__main__":
    main()
