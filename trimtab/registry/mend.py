"""What a crash or a hand left behind in the registry is cleared, unless a release is running."""

from __future__ import annotations

from trimtab.registry.connection import Registry
from trimtab.registry.promote import reconcile
from trimtab.registry.sweep import sweep
from trimtab.registry.tracking import Tracking
from trimtab.settings import Settings
from trimtab.store import os_lock


def mend(settings: Settings, registry: Registry, name: str) -> list[str]:
    """Clear what dead releases left, settle half-made promotions and what was changed by hand in MLflow.

    Returns:
        What was found and done, one sentence each.

    Raises:
        Conflict: a release of this name is running; nothing was touched.
    """
    tracking = Tracking(settings.tracking_uri(), settings.locks)
    with os_lock(settings.locks / f"release-{name}.lock", wait=False, what=f"a release of {name}"):
        found = [
            *sweep(registry, tracking.experiment(name), name, set(), orphans=True),
            *reconcile(registry, name),
        ]
    return [str(line) for line in found]
