"""Whether a service can score now."""

from __future__ import annotations

from trimtab.serving.service import Service

HANGING_S = 30.0


def unready(service: Service) -> str | None:
    """Why it cannot; None when it can."""
    if service.engine.current is None:
        return "no release is loaded yet"
    if service.engine.longest_s > HANGING_S:
        return f"one request has run for over {HANGING_S:g} s"
    return None
