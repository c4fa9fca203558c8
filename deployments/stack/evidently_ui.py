"""`python -m deployments.stack.evidently_ui …`: `evidently …`, whose package has no __main__, at low priority.

It imports for four seconds while everything else starts beside it, and nothing but a person waits for it.
"""

from __future__ import annotations

import os

NICENESS = 10  # of 19: a tenth of the processor time of the others, while they want it


def main() -> None:
    """Step back, then Evidently's command line."""
    os.nice(NICENESS)
    from evidently.cli import app

    app()


if __name__ == "__main__":
    main()
