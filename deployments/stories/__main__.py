"""`python -m deployments.stories [NAME …]`: play the stories; the last line is one JSON object."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from deployments.environment import PACKAGE_ROOT, apply
from deployments.stack import down, up
from trimtab.settings import Settings


def main() -> int:
    """Play them on servers of their own; 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m deployments.stories", description=__doc__)
    parser.add_argument("names", nargs="*", help="stories to play (default: all)")
    parser.add_argument("--home", type=Path, help="state directory to use and keep (default: a temporary one)")
    options = parser.parse_args()
    root = options.home or Path(tempfile.mkdtemp(prefix="trimtab-stories-"))
    settings = Settings(home=root / "home")
    try:
        stack = up(settings, placed=apply, wait_for_all=False)  # the first story waits for the rest
        found = _play(root, options.names, stack.total_s)
    finally:
        down(settings)
        if options.home is None:
            shutil.rmtree(root, ignore_errors=True)
    print(json.dumps({"commit": _commit(), "stories": found}))
    return 0 if all(one["ok"] for one in found.values()) else 1


def _play(root: Path, names: list[str], seconds: float) -> dict[str, Any]:
    from deployments.stories.book import STORIES
    from deployments.stories.stage import Stage

    unknown = sorted(set(names) - set(STORIES))
    if unknown:
        raise SystemExit(f"no such story: {', '.join(unknown)}; there are {', '.join(STORIES)}")
    print(f"servers ready in {seconds:.1f} s", flush=True)
    found: dict[str, Any] = {}
    for name, story in STORIES.items():
        if names and name not in names:
            continue
        begin = time.monotonic()
        print(f"{name}: {(story.__doc__ or '').strip()}", flush=True)
        try:
            story(Stage(root / "home", root / "project", name.replace("_", "-"), in_process=True))
            ok = True
        except Exception:  # the others are played all the same
            traceback.print_exc(file=sys.stdout)
            ok = False
        found[name] = {"ok": ok, "seconds": round(time.monotonic() - begin, 1)}
        print(f"  {'kept' if ok else 'NOT KEPT'} after {found[name]['seconds']} s", flush=True)
    return found


def _commit() -> str:
    """Of the clone this is run from; "" elsewhere."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PACKAGE_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
