"""The timeline as one self-contained HTML file: no script, nothing loaded from anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from trimtab.audit.timeline import Moment

NEWEST = 2000  # moments that are shown; the ledger keeps them all
WORDS = {
    "window": ("window judged", "windows judged"),
    "alert": ("alert", "alerts"),
    "reaction": ("step of a reaction", "steps of reactions"),
    "release": ("release", "releases"),
    "serves": ("change of what serves", "changes of what serves"),
}


def render(name: str, moments: Sequence[Moment], serving: str) -> str:
    """The page.

    Args:
        moments: oldest first. serving: what serves now, in words.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("trimtab.audit").joinpath("page.html.j2").read_text(encoding="utf-8"))
    count: Counter[str] = Counter(moment.kind for moment in moments)
    shown = list(moments)[-NEWEST:]
    known = {moment.id for moment in shown}
    return template.render(
        name=name,
        serving=serving,
        counts=[f"{count[kind]} {WORDS[kind][count[kind] != 1]}" for kind in WORDS if count[kind]],
        left_out=len(moments) - len(shown),
        windows=[moment for moment in shown if moment.kind in ("window", "skipped", "serves")],
        moments=shown[::-1],
        known=known,
        followers=_followers(shown),
    )


def _followers(moments: Sequence[Moment]) -> dict[str, list[Moment]]:
    """Id → the moments that followed from it."""
    found: dict[str, list[Moment]] = {}
    for moment in moments:
        if moment.follows:
            found.setdefault(moment.follows, []).append(moment)
    return found
