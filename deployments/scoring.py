"""`python -m deployments.scoring --name NAME`: the scoring service that follows the registry's champion and challenger.

With `--release digits/3` or `--release digits@challenger` it serves that under a name, and in a journal, of its own.

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
from trimtab.registry.reference import Reference
from trimtab.registry.signing import verify_release
from trimtab.serving.heap import keep_small
from trimtab.serving.options import add_options, read_options
from trimtab.serving.routing import CHALLENGER
from trimtab.serving.run import bind, log_to_stderr, serve
from trimtab.serving.service import Place, Service, following
from trimtab.settings import Settings


@dataclass(frozen=True)
class Registered:
    """What is meant by a release, on an MLflow server; the service's source of releases."""

    tracking_uri: str
    meant: Reference
    keys: Keyring

    def current(self) -> int | None:
        """The version that is meant now: the one under the alias, None when there is none; or the one version."""
        if self.meant.version is not None:
            return self.meant.version
        return follow.version_under(self.tracking_uri, self.meant.name, str(self.meant.alias))

    def download(self, version: int, into: Path) -> Any:
        """Fetch and verify a version's release folder; its release.json."""
        return follow.download(self.tracking_uri, self.meant.name, version, into, self.keys)


def scoring_service(name: str, settings: Settings, place: Place | None = None, release: str | None = None) -> Service:
    """The service of a name, wired to the registry.

    Args:
        release: what it serves, as `Reference.parse` reads it; None: the champion of its name, with the challenger
            beside it.

    Raises:
        StateError: no MLflow server is known, or the state directory or the tokens cannot be used.
        RegistryError: `release` names none. Conflict: another service of this name runs.
    """
    keys = Keyring(settings.signing_keys)
    meant = Reference.parse(release) if release else Reference(name)
    source = Registered(settings.tracking_uri(), meant, keys)
    beside = None if release else Registered(settings.tracking_uri(), Reference(name, CHALLENGER), keys)
    check = partial(verify_release, keys=keys, name=meant.name)
    return following(name, settings, source, check, place, beside)


def main() -> int:
    """Read the command line, serve, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deployments.scoring", description=__doc__)
    parser.add_argument("--name", required=True, help="release name, as registered")
    parser.add_argument("--release", help="what is served under that name: RELEASE/VERSION or RELEASE@alias")
    parser.add_argument("--mlflow", help="address of the MLflow server (default: the one `trimtab up` started)")
    add_options(parser)
    options = parser.parse_args()
    log_to_stderr()
    keep_small()
    try:
        start = read_options(options)
        settings = Settings.load(options.home).ensure_home()
        if options.mlflow:
            settings = settings.model_copy(update={"mlflow_tracking_uri": options.mlflow})
        listener = bind(start.host, start.port)
        service = scoring_service(options.name, settings, start.place, options.release)
    except TrimtabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    serve(service, listener, start.tls)
    return 0


if __name__ == "__main__":
    sys.exit(main())
