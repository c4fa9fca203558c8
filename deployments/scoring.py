"""`python -m deployments.scoring --name NAME`: the scoring service that follows the registry's champion and challenger.

Here the floors meet: the registry is handed to the service, which knows it only as a source of releases.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trimtab.errors import TrimtabError
from trimtab.registry import follow
from trimtab.registry.keys import Keyring
from trimtab.registry.signing import verify_release
from trimtab.serving.options import add_options, read_options
from trimtab.serving.routing import CHALLENGER, CHAMPION
from trimtab.serving.run import bind, log_to_stderr, serve
from trimtab.serving.service import Place, Service, following
from trimtab.settings import Settings


@dataclass(frozen=True)
class Aliased:
    """An alias of a release name on an MLflow server; the service's source of releases."""

    tracking_uri: str
    name: str
    keys: Keyring
    alias: str

    def current(self) -> int | None:
        """The version under the alias, None when there is none."""
        return follow.current(self.tracking_uri, self.name, self.alias)

    def download(self, version: int, into: Path) -> Any:
        """Fetch and verify a version's release folder; its release.json."""
        return follow.download(self.tracking_uri, self.name, version, into, self.keys)


def scoring_service(name: str, settings: Settings, place: Place | None = None) -> Service:
    """The service of a release name, wired to the registry.

    Raises:
        StateError: no MLflow server is known, or the state directory or the tokens cannot be used.
        Conflict: another service of this name runs.
    """
    keys = Keyring(settings.signing_keys)
    champion, challenger = (Aliased(settings.tracking_uri(), name, keys, alias) for alias in (CHAMPION, CHALLENGER))
    check = partial(verify_release, keys=keys, name=name)
    return following(name, settings, champion, check, place, challenger)


def main() -> int:
    """Read the command line, serve, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deployments.scoring", description=__doc__)
    parser.add_argument("--name", required=True, help="release name, as registered")
    parser.add_argument("--mlflow", help="address of the MLflow server (default: the one `trimtab up` started)")
    add_options(parser)
    options = parser.parse_args()
    log_to_stderr()
    try:
        start = read_options(options)
        settings = Settings.load(options.home).ensure_home()
        if options.mlflow:
            settings = settings.model_copy(update={"mlflow_tracking_uri": options.mlflow})
        listener = bind(start.host, start.port)
        service = scoring_service(options.name, settings, start.place)
    except TrimtabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    serve(service, listener, start.tls)
    return 0


if __name__ == "__main__":
    sys.exit(main())
