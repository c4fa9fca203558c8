"""The watch: compares what was served with what was verified, and says what that may start.

`profile.build` at release, `judge.judge` on a window, `policy.decide` on the verdicts, `evidently_report` for the page.
It reads the journal's windows and imports no server; scipy and Evidently are imported when a window is compared.
"""

from trimtab.monitoring.policy import Decision, Facts, decide
from trimtab.monitoring.profile import Profile
from trimtab.monitoring.verdict import Verdict

__all__ = ["Decision", "Facts", "Profile", "Verdict", "decide"]
