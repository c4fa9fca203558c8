"""The verdict on a window: on the model against its release, on the service against what it was used to."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np

from trimtab.journal.samples import read_samples
from trimtab.journal.window import Window
from trimtab.monitoring.door import own_of
from trimtab.monitoring.judge import judge
from trimtab.monitoring.outgrown import outgrown
from trimtab.monitoring.own import Own
from trimtab.monitoring.performance_reference import read_performance
from trimtab.monitoring.profile import Profile, read_reference
from trimtab.monitoring.revisions import standing
from trimtab.monitoring.service import Breach, ServiceFacts, assess, at_the_door
from trimtab.monitoring.verdict import Verdict
from trimtab.own_slices import slices_of_rows
from trimtab.recipe import UserCode
from trimtab.registry.package import PERFORMANCE, PROFILE, REFERENCE
from trimtab.watch.known import Known

SAMPLES_NS = 3600 * 10**9  # of samples before a window's end are looked at: a leak shows within an hour


class Judging(Known):
    """Judges windows; it writes nothing down."""

    def reference(self, version: str) -> tuple[Profile, dict[str, np.ndarray]]:
        """Profile and reference columns of a version."""
        folder = self.release(version)
        return Profile.from_json(json.loads((folder / PROFILE).read_bytes())), read_reference(folder / REFERENCE)

    @cached_property
    def own(self) -> Own:
        """The recipe's own descriptors, ready to be called.

        Raises:
            UserCodeError, RecipeError: one cannot be imported.
        """
        return own_of(UserCode(self.path))

    def judge(self, window: Window, before: int | None = None, sampled: ServiceFacts | None = None) -> Verdict:
        """The verdict on a window: on the model against its release, on the service against what it was used to.

        Args:
            before: what was recorded from this entry of the stream on is taken for not yet known.
            sampled: what was seen of the service, where it is known already: its samples are not kept for ever.
        """
        version, past = str(window.version[-1]), standing(self.verdicts(before))
        profile, columns = self.reference(version)
        verdict = judge(
            window,
            profile,
            columns,
            self.recipe.monitoring,
            known=read_performance(self.release(version) / PERFORMANCE),
            past=past,
            slices=partial(slices_of_rows, self.path) if self.recipe.verify.slices else None,
            own=self.own,
        )
        return verdict.with_service(sampled or self._service(window, version, past))

    def _service(self, window: Window, version: str, verdicts: Sequence[Verdict]) -> ServiceFacts | None:
        past = [v for v in verdicts if v.service is not None and v.hi <= window.lo]
        others = [v.version for v in past if v.version != version]
        until = int(window.time_ns[-1])
        figures = self.release_facts(version).get("figures", {})
        return assess(
            window,
            read_samples(self.journal, until - SAMPLES_NS, until),
            [v.service for v in past if v.version == version and v.service is not None],
            [v.service for v in past if others and v.version == others[-1] and v.service is not None],
            self.recipe.monitoring.service,
            outgrown(figures, self.recipe.budget),
        )

    def at_the_door(self) -> list[Breach]:
        """What the service refused since the last window, where it is more than it used to be."""
        past = [v.service for v in standing(self.verdicts()) if v.service is not None]
        now = time.time_ns()
        since = max(int(past[-1].ended_s * 1e9) if past else 0, now - SAMPLES_NS)
        return at_the_door(read_samples(self.journal, since, now), past, self.recipe.monitoring.service)
