"""What is said of the challenger: its part of /version, and GET /comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from trimtab.serving.answers import answer
from trimtab.serving.challenger import Seat
from trimtab.serving.evidence import missing
from trimtab.serving.service import Service

NEWEST = 20  # pairs that are told; a name that is released often has many
_TOLD = ("candidate", "label", "target", "precision")


def challenger(service: Service) -> dict[str, Any] | None:
    """What /version says of the challenger: what is loaded and how it is tried, what was refused; None for neither."""
    follower, seat = service.challenger_follower, service.seat
    state = follower.state if follower is not None else None
    refused = state.refusal if state is not None else None
    wanted = state.wanted if state is not None else None
    if seat is None and refused is None and wanted is None:
        return None
    return {"version": None, "wanted": wanted, "refused": refused, **({} if seat is None else _told(seat))}


async def comparison(service: Service, request: Request) -> Response:
    """GET /comparison: per pair of versions what the challenger showed, and what its promotion still needs."""
    seat, champion, challengers = service.seat, service.engine.current, service.challengers
    pairs = [] if challengers is None else challengers.comparisons.tallies()
    return answer(
        {
            "name": service.name,
            "champion": None if champion is None else champion.version,
            "challenger": challenger(service),
            "promotion": _promotion(service, seat),
            "pairs": [_plain(tally.to_json()) for tally in pairs[:NEWEST]],
        }
    )


def _told(seat: Seat) -> dict[str, Any]:
    trial, loaded = seat.trial, seat.loaded
    return {
        "version": loaded.version,
        **{key: loaded.facts.get(key) for key in _TOLD},
        "since_ns": loaded.since_ns,
        "canary_percent": trial.canary_percent,
        "by_header": trial.by_header,
        "shadow_percent": trial.shadow_percent,
    }


def _promotion(service: Service, seat: Seat | None) -> dict[str, Any] | None:
    champion, challengers = service.engine.current, service.challengers
    if seat is None or seat.rule is None or champion is None or challengers is None:
        return None
    tally = challengers.comparisons.tally(champion.version, seat.loaded.version)
    return {"rule": seat.rule.to_json(), "missing": missing(seat.rule, tally)}


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Without the sum of logarithms, which only the file needs."""
    return {key: entry for key, entry in value.items() if key != "log_ratio"}
