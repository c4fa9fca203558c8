"""`python -m deployments.stack.launch MODULE …`: MODULE as `python -m` runs it, started sooner.

While large libraries are imported nothing is garbage, and Python's collector looks through all of it again and again:
a seventh of the time until a server answers or a flow run begins. It is told to look less often, for good.
"""

from __future__ import annotations

import gc
import runpy
import sys

ALLOCATIONS = 50_000  # before the youngest objects are looked at; 700 is Python 3.11's own
OFTEN = (20, 100)  # young and middle collections before the next older one


def main() -> None:
    """Run the module that the command line names."""
    if len(sys.argv) < 2:
        raise SystemExit("usage: python -m deployments.stack.launch MODULE [ARGUMENT …]")
    gc.set_threshold(ALLOCATIONS, *OFTEN)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
