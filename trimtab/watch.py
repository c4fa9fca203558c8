"""What the watch over one release name knows and does: next window, verdict, ledger, decision, reaction.

Streams in the ledger: `verdicts/<name>` (a verdict, or rows passed over with the reason) and `reactions/<name>`
(started, finished). The ledger comes first; events and reports follow from it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from trimtab import reactions
from trimtab.errors import Conflict, StateError
from trimtab.journal import reader
from trimtab.journal.samples import read_samples
from trimtab.journal.window import Window, has_label
from trimtab.ledger import Ledger
from trimtab.monitoring.causes import causes
from trimtab.monitoring.door import own_of
from trimtab.monitoring.episodes import windows
from trimtab.monitoring.judge import judge, ready
from trimtab.monitoring.outgrown import outgrown
from trimtab.monitoring.own import Own
from trimtab.monitoring.performance_reference import read_performance
from trimtab.monitoring.policy import Decision, Facts, decisions
from trimtab.monitoring.profile import Profile, read_reference
from trimtab.monitoring.revisions import replaced_by, standing, told, with_successors
from trimtab.monitoring.service import Breach, ServiceFacts, assess, at_the_door
from trimtab.monitoring.verdict import Verdict
from trimtab.own_slices import slices_of_rows
from trimtab.recipe import Recipe, UserCode, load_recipe
from trimtab.recompress import Figure, Recompress
from trimtab.registry.copies import release_folder
from trimtab.registry.follow import current_champion
from trimtab.registry.package import PERFORMANCE, PROFILE, REFERENCE, RELEASE
from trimtab.registry.promotions import ROLLBACK, read_log
from trimtab.retrain import NewRows, divide, together
from trimtab.settings import Settings
from trimtab.store import os_lock

SAMPLES_NS = 3600 * 10**9  # of samples before a window's end are looked at: a leak shows within an hour


@dataclass(frozen=True)
class Next:
    """What the journal holds for the next verdict: a window that can be judged, or why there is none yet."""

    window: Window | None
    state: str


class Watch:
    """The watch over the release that a recipe names.

    Args:
        recipe: path of the recipe file. settings: where things are.
    """

    def __init__(self, recipe: Path | str, settings: Settings) -> None:
        self.path = Path(recipe)
        self.recipe: Recipe = load_recipe(recipe)
        self.settings = settings
        self.name = self.recipe.name
        self._recorded: dict[int, Verdict | None] = {}  # entry of the stream → its verdict, None of rows passed over

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, opened once."""
        return Ledger(self.settings.ledger)

    @property
    def journal(self) -> Path:
        """Where the scoring service writes this release's journal."""
        return self.settings.journal / self.name

    def verdicts(self, before: int | None = None) -> list[Verdict]:
        """Every verdict so far, or before an entry of the stream, oldest first (late labels: see `revisions.told`)."""
        last = next(reversed(self._recorded), 0)  # the stream only grows: what was read is not read again
        for item in self.ledger.read(f"verdicts/{self.name}", after=last):
            verdict = item.entry.get("verdict")
            self._recorded[item.seq] = None if verdict is None else Verdict.from_json(verdict)
        known = [one for seq, one in self._recorded.items() if before is None or seq < before]
        return told(one for one in known if one is not None)

    def position(self) -> tuple[int, int]:
        """Offset up to which the journal was judged or passed over, and the stream's head."""
        entries = self.ledger.read(f"verdicts/{self.name}")
        # A window that late labels re-opened is recorded again, after later ones.
        return (max(int(item.entry["hi"]) for item in entries), entries[-1].seq) if entries else (0, 0)

    def next_window(self) -> Next:
        """The next window that can be judged; rows that can never fill one are passed over, with a record.

        A window holds rows of one version. Rows of a version followed by another one's before they fill a window are
        passed over.
        """
        size = self.recipe.monitoring.window.rows
        lo, head = self.position()
        end = reader.end(self.journal)
        while True:
            window = reader.window(self.journal, lo, min(end, lo + size))
            run = _run_length(np.asarray(window.version))
            if run == 0 or (run < size and lo + run == end):
                return Next(None, f"collecting: {run} of {size} rows")
            if run == size:
                return self._with_labels(window)
            why = f"version {window.version[0]} was replaced before it answered {size} rows"
            head = self.ledger.record(
                f"verdicts/{self.name}", {"passed_over": why, "lo": lo, "hi": lo + run}, expect_seq=head
            )
            lo += run

    def _with_labels(self, window: Window) -> Next:
        age = time.time() - int(window.time_ns[0]) / 1e9
        labelled = int(has_label(np.asarray(window.label)).sum())
        answer = ready(len(window.label), labelled, age, self.recipe.monitoring.window)
        if answer == "judge":
            return Next(window, "judge")
        return Next(None, f"waiting for labels: {labelled} of {self.recipe.monitoring.window.min_labels}")

    def release(self, version: str | int) -> Path:
        """The files of a version, downloaded once; verified every time, and downloaded again if they do not stand it.

        Raises:
            RegistryError: nor does what MLflow has.
        """
        return release_folder(self.settings, self.name, version)

    def release_facts(self, version: str | int) -> dict[str, Any]:
        """release.json of a version."""
        facts: dict[str, Any] = json.loads((self.release(version) / RELEASE).read_bytes())
        return facts

    def reference(self, version: str) -> tuple[Profile, dict[str, np.ndarray]]:
        """Profile and reference columns of a version."""
        folder = self.release(version)
        return Profile.from_json(json.loads((folder / PROFILE).read_bytes())), read_reference(folder / REFERENCE)

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

    @cached_property
    def own(self) -> Own:
        """The recipe's own descriptors, ready to be called.

        Raises:
            UserCodeError, RecipeError: one cannot be imported.
        """
        return own_of(UserCode(self.path))

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

    def record(self, verdict: Verdict) -> int:
        """Write the verdict down, with what it takes to make it again; two monitors at once: one wins.

        Raises:
            Conflict: another monitor judged this window first.
        """
        _, head = self.position()
        stands = replaced_by(standing(self.verdicts()), (verdict.lo, verdict.hi))
        if verdict.replaces != (None if stands is None else stands.digest):
            what = f"rows {verdict.lo} to {verdict.hi} were judged meanwhile"
            raise Conflict(what, where=f"verdicts/{self.name}", fix="judge them anew")
        entry = {"verdict": verdict.to_json(), "digest": verdict.digest, "lo": verdict.lo, "hi": verdict.hi}
        made_with = {"recipe": str(self.path.resolve()), "monitoring": self.recipe.monitoring.model_dump(mode="json")}
        return self.ledger.record(f"verdicts/{self.name}", {**entry, **made_with}, expect_seq=head)

    def book(self) -> reactions.Book:
        """What the ledger has of reactions."""
        return reactions.read(self.ledger, self.name)

    def facts(self) -> Facts:
        """What is so now: champion, promotion, reactions, alerts."""
        log, book = read_log(self.ledger, self.name), self.book()
        return Facts(
            champion_version=str(current_champion(self.settings.tracking_uri(), self.name)),
            promoted_at=reactions.seconds(log.done[-1].time) if log.done else None,
            previous_version=None if log.previous is None else str(log.previous),
            rolled_back=bool(log.done) and log.done[-1].kind == ROLLBACK,
            reactions=book.reactions,
            approved=book.approved,
            proposed=frozenset(one.decision.episode for one in book.proposals),
            said=reactions.said(self.ledger.read(reactions.alerts_stream(self.name))),
            closed_at=book.closed_at,
        )

    def reacted(self) -> frozenset[str]:
        """Digests of the verdicts that have a reaction, and of those that replaced them since."""
        return with_successors((one.verdict for one in self.book().reactions), self.verdicts())

    def decide(self, digest: str | None = None) -> Decision:
        """What the verdicts so far may start now: about the newest one, or the one with this digest."""
        return self.decisions(digest)[0]

    def decisions(self, digest: str | None = None) -> tuple[Decision, ...]:
        """The same with the alerts that are due beside it."""
        if digest is not None and any(verdict.replaces == digest for verdict in self.verdicts()):
            return (Decision("none", "a later verdict on the same rows has replaced this one", digest),)
        monitoring = self.recipe.monitoring
        return decisions(self._until(digest), self.facts(), monitoring.policy, monitoring.mode, time.time())

    def _until(self, digest: str | None) -> list[Verdict]:
        past = self.verdicts()
        if digest is None:
            return past
        known = [index for index, verdict in enumerate(past) if verdict.digest == digest]
        return past[: known[-1] + 1] if known else []

    def verdict(self, digest: str) -> Verdict:
        """The verdict with this digest.

        Raises:
            StateError: the ledger has none.
        """
        for verdict in self.verdicts():
            if verdict.digest == digest:
                return verdict
        raise StateError(f"the ledger has no verdict {digest[:12]}", where=self.name, fix="see `trimtab status`")

    def begin(self, decision: Decision, run: str) -> int:
        """Write down that a reaction starts, before it does.

        Raises:
            Conflict: another reaction started at the same moment.
        """
        stream = reactions.stream(self.name)
        head = self.ledger.head(stream)
        if self.facts().of(decision.verdict_digest) is not None:
            return head
        entry = {"act": "started", "verdict": decision.verdict_digest, **decision.to_json(), "run": run}
        return self.ledger.record(stream, entry, expect_seq=head)

    def finish(
        self, decision: Decision, run: str, outcome: str, version: int | None, release: dict[str, Any] | None = None
    ) -> None:
        """Write down how a reaction ended.

        Args:
            version: what serves because of it; None where it changed nothing.
            release: summary of the release it made, if it made one.
        """
        entry: dict[str, Any] = {"act": "finished", "verdict": decision.verdict_digest, "run": run, "outcome": outcome}
        entry |= {"version": version, "end": reader.end(self.journal)}
        if release is not None:
            entry["release"] = release
        self.ledger.record(reactions.stream(self.name), entry, expect_seq=None)

    def unfinished(self, digest: str | None = None) -> Decision | None:
        """The reaction that was begun and not finished (of this verdict, or any); only true while none is running."""
        entries = [item.entry for item in self.ledger.read(reactions.stream(self.name))]
        finished = {entry["verdict"] for entry in entries if entry["act"] == "finished"}
        for entry in entries:
            if entry["act"] == "started" and entry["verdict"] not in finished and digest in (None, entry["verdict"]):
                return reactions.decision_of(entry)
        return None

    def done_already(self, decision: Decision) -> int | None:
        """What serves, if it does because of this decision's reaction (killed before it said so)."""
        version = current_champion(self.settings.tracking_uri(), self.name)
        if version is None:
            return None
        if decision.action == "rollback":
            return version if str(version) != self.verdict(decision.verdict_digest).version else None
        facts = self.release_facts(version)
        made_by = facts.get("recompressed") if decision.action == "recompress" else facts.get("verdict")
        return version if made_by == decision.verdict_digest else None

    def recompression(self, digest: str) -> tuple[Recompress, str | None]:
        """What a recompression for a verdict is about, and the verdict whose rows the champion was trained on, if any.

        Raises:
            StateError: no such verdict, it found nothing too costly, or nothing serves.
        """
        found = causes(self.verdict(digest))
        figures: tuple[Figure, ...] = get_args(Figure)
        figure = next((one for one in figures if one in found), None)
        version = current_champion(self.settings.tracking_uri(), self.name)
        if figure is None or version is None:
            what = "found nothing too costly" if figure is None else "is about a release of which nothing serves"
            raise StateError(f"verdict {digest[:12]} {what}", where=self.name, fix="see `trimtab status`")
        facts = self.release_facts(version)
        return Recompress(digest, figure, facts["figures"]["size_ratio"]), facts.get("verdict")

    def owed(self) -> str | None:
        """Digest of a verdict whose reaction no event started, or that a kill cut short; None if nothing is owed."""
        try:
            with self.reacting():
                cut_short = self.unfinished()
                if cut_short is not None:
                    return cut_short.verdict_digest
                for digest in self._approved_and_not_begun():
                    if self.decide(digest).acts:
                        return digest
                if self.settled():
                    return None
                decision = self.decide()
                return decision.verdict_digest if decision.acts else None
        except Conflict:
            return None

    def _approved_and_not_begun(self) -> list[str]:
        book = self.book()
        return sorted(book.approved - {reaction.verdict for reaction in book.reactions})

    def settled(self) -> bool:
        """Whether the newest verdict calls for nothing, whatever the registry says; it need not be asked then."""
        past = self.verdicts()
        return not past or not causes(past[-1])

    def unsaid(self) -> list[Decision]:
        """Alerts that the newest verdict calls for and no event brought into the ledger."""
        return [] if self.settled() else [one for one in self.decisions() if one.action == "alert"]

    @contextmanager
    def reacting(self) -> Iterator[None]:
        """One reaction of a name at a time.

        Raises:
            Conflict: one is running.
        """
        with os_lock(self.settings.locks / f"react-{self.name}.lock", wait=False, what=f"a reaction for {self.name}"):
            yield

    def new_rows(self, digest: str) -> NewRows:
        """Labelled rows of the windows that a verdict rests on, divided into training and held-out rows.

        These are its own window and, of the last n windows of the same version, those that show damage too.

        Raises:
            DataError: too few labelled rows, or inputs were not journalled. StateError: there is no such verdict.
        """
        verdict = self.verdict(digest)
        past = windows(self._until(digest), verdict.version)[-self.recipe.monitoring.policy.n :]
        places = [(one.lo, one.hi) for one in past if one.lo != verdict.lo and "damage" in causes(one)]
        parts = [self._labelled(lo, hi) for lo, hi in [*places, (verdict.lo, verdict.hi)]]
        inputs, labels, ids = together(parts, f"verdict {digest[:12]}")
        return divide(inputs, labels, ids, self.recipe.monitoring.holdout, digest)

    def _labelled(self, lo: int, hi: int) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
        """Inputs, labels and ids of the rows from lo to hi that can be trained on."""
        window = reader.window(self.journal, lo, hi)
        keep = has_label(np.asarray(window.label)) & (np.asarray(window.status) < 400) & np.asarray(window.has_inputs)
        inputs = {name: np.asarray(values)[keep] for name, values in (window.inputs or {}).items()}
        ids = [f"{request}/{row}" for request, row in zip(window.request_id[keep], window.row[keep], strict=True)]
        return inputs, np.asarray(window.label)[keep], ids

    def needed_from(self) -> int:
        """Offset from which rows of the journal may still be needed.

        Those of windows that are not judged yet, of the last windows that late labels may re-open or a reaction may
        rest on, and of verdicts whose reaction waits for a person or is not finished.
        """
        position, _ = self.position()
        monitoring, past, book = self.recipe.monitoring, self.verdicts(), self.book()
        waiting = {one.decision.verdict_digest for one in book.proposals} - {one.verdict for one in book.reactions}
        begun = {one.verdict for one in book.reactions if one.finished_at is None}
        recent = standing(past)[-max(monitoring.policy.n, monitoring.label_horizon, 1) :]
        held = [one.lo for one in past if one.digest in begun | waiting]
        return min([position, *held, *(one.lo for one in recent)])


def _run_length(versions: np.ndarray) -> int:
    """How many rows from the start have the same version as the first."""
    if len(versions) == 0:
        return 0
    other = np.flatnonzero(versions != versions[0])
    return int(other[0]) if len(other) else len(versions)
