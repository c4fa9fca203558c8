"""`python -m trimtab.serving --name NAME --release-folder FOLDER`: one release, without a registry."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trimtab.errors import TrimtabError
from trimtab.serving.heap import keep_small
from trimtab.serving.options import add_options, read_options
from trimtab.serving.run import bind, log_to_stderr, serve
from trimtab.serving.service import fixed
from trimtab.settings import Settings


def main() -> int:
    """Read the command line, serve, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trimtab.serving", description=__doc__)
    parser.add_argument("--name", required=True, help="release name; names the journal's folder")
    parser.add_argument("--release-folder", required=True, type=Path, help="as inside the registered model")
    parser.add_argument("--version", default="0", help="what the answers and the journal call it (default 0)")
    add_options(parser)
    options = parser.parse_args()
    log_to_stderr()
    keep_small()
    try:
        start = read_options(options)
        settings = Settings.load(options.home).ensure_home()
        listener = bind(start.host, start.port)
        service = fixed(options.name, settings, options.release_folder, options.version, start.place)
    except TrimtabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    serve(service, listener, start.tls)
    return 0


if __name__ == "__main__":
    sys.exit(main())
