"""`python -m deployments.hands.settle NAME`: bring MLflow and the ledger in step, and give the alerts that are owed.

The same step that a promotion begins with and `trimtab doctor --fix` ends with. Alerts are runs of the flow `alert`, in
this process: they need the Prefect server, no deployment and no worker.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import httpx

from deployments.environment import apply
from trimtab.errors import StateError, TrimtabError
from trimtab.ledger import Ledger
from trimtab.registry.promotions import stream
from trimtab.registry.unsaid import CAUSE, unsaid
from trimtab.settings import Settings


def settle(settings: Settings, name: str) -> list[str]:
    """What was found and done, one sentence each, alerts included.

    Raises:
        TrimtabError: MLflow, the ledger or Prefect does not answer; what was done until then stays done.
    """
    from trimtab.registry.connection import Registry
    from trimtab.registry.promote import reconcile

    done = reconcile(Registry.from_settings(settings), name)
    for line in done:
        print(f"{name}: {line}", flush=True)
    return [*done, *give_alerts(settings, name)]


def give_alerts(settings: Settings, name: str) -> list[str]:
    """Subjects of the alerts that were owed and are given now.

    Raises:
        StateError: Prefect does not answer; the ledger goes on saying that they are owed.
    """
    ledger = Ledger(settings.ledger)
    owed = unsaid(name, ledger.read(stream(name)), ledger.read(f"alerts/{name}"))
    if owed:
        apply(settings)
        from prefect.exceptions import PrefectException

        from flows.alert import alert

        try:
            for one in owed:
                alert(name=name, subject=one.subject, body=one.body, cause=CAUSE, episode=one.episode)
        except (PrefectException, httpx.HTTPError, RuntimeError) as error:
            raise StateError(
                f"an alert could not be given: {error or type(error).__name__}",
                where=name,
                fix="see that the Prefect server runs (`trimtab status`); it is tried again",
            ) from error
    return [one.subject for one in owed]


def main() -> int:
    """Read the command line, settle, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deployments.hands.settle", description=__doc__)
    parser.add_argument("--home", type=Path, help="state directory")
    parser.add_argument("--mlflow", help="address of the MLflow server")
    parser.add_argument("name", help="release name, as registered")
    options = parser.parse_args()
    try:
        settings = Settings.load(options.home).ensure_home()
        if options.mlflow:
            settings = settings.model_copy(update={"mlflow_tracking_uri": options.mlflow})
        settle(settings, options.name)
    except TrimtabError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
