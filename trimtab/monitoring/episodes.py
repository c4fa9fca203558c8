"""Episodes: windows that show one cause belong together, and start one reaction and one alert.

Example, n = 3, "x" a window of one version that shows the cause and "." one that does not:

    . x x . x . . . x x      two episodes; the three clear windows between them end the first
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.candidate import digest_of
from trimtab.monitoring.causes import Cause, can_say, causes
from trimtab.monitoring.verdict import Verdict


@dataclass(frozen=True)
class Episode:
    """The episode that the newest window of a version belongs to.

    Attributes:
        id: identity, the same for every window of the episode. lo: where its first window begins.
        recent: how many of the last n windows show the cause.
    """

    id: str
    lo: int
    recent: int


def episode(history: Sequence[Verdict], cause: Cause, n: int, since: int = 0) -> Episode | None:
    """The episode of a cause that is not over.

    Args:
        history: from `standing`, of one version. n: so many windows without the cause end an episode.
        since: windows that begin before this offset belong to an earlier one.

    Returns:
        None where none of the last n windows that could show the cause does.
    """
    able = [verdict for verdict in history if verdict.lo >= since and can_say(verdict, cause)]
    showing = [index for index, verdict in enumerate(able) if cause in causes(verdict)]
    if not showing or len(able) - 1 - showing[-1] >= n:
        return None
    first = showing[-1]
    for index in reversed(showing[:-1]):
        if first - index - 1 >= n:
            break
        first = index
    lo, version = able[first].lo, able[first].version
    recent = sum(1 for index in showing if index >= len(able) - n)
    return Episode(digest_of(["episode", cause, version, lo])[:16], lo, recent)
