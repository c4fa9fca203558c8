"""The watch over one release name: next window, verdict, ledger, decision, reaction, the rows of a retrain, retention.

Streams in the ledger: `verdicts/<name>` (a verdict, or rows passed over with the reason) and `reactions/<name>`
(proposed, started, finished, …). The ledger comes first; events and reports follow from it. One idea a file, each a
part of the class below, on top of what is `known`.
"""

from trimtab.watch.judging import Judging
from trimtab.watch.keeping import Keeping
from trimtab.watch.learning import Learning
from trimtab.watch.reacting import Reacting
from trimtab.watch.windows import Next, Windows

__all__ = ["Next", "Watch"]


class Watch(Windows, Judging, Reacting, Learning, Keeping):
    """The watch over the release that a recipe names.

    Args:
        recipe: path of the recipe file. settings: where things are.
    """
