"""Labels that come after the verdict: which judged windows they re-open.

Labels have come in numbers that can change a verdict when there were too few to say and now are enough, or when there
are twice as many. A window that a reaction was started for is not opened again: that it was right or wrong is for the
windows after it to show.
"""

from __future__ import annotations

from trimtab.journal import reader
from trimtab.monitoring.revisions import candidates, grown
from trimtab.watch import Watch

MOST_AT_ONCE = 5


def late_windows(watch: Watch) -> list[tuple[int, int]]:
    """Rows of the windows that are to be judged again, oldest first, and so many at once that a run stays short.

    `monitoring.label_horizon` says how many of the last windows are looked at.
    """
    monitoring = watch.recipe.monitoring
    past = candidates(watch.verdicts(), monitoring.label_horizon, watch.reacted())
    # Where every row had its label there is nothing to wait for.
    open_ones = [one for one in past if one.labels is not None and one.labels.in_window < one.hi - one.lo]
    spans = [(one.lo, one.hi) for one in open_ones]
    counts = zip(open_ones, reader.labelled(watch.journal, spans), strict=True)
    least = monitoring.window.min_labels
    late = [one for one, now in counts if one.labels is not None and grown(one.labels.in_window, now, least)]
    return [(one.lo, one.hi) for one in late][:MOST_AT_ONCE]
