"""What the watch over one release name knows and does: next window, verdict, ledger, decision, reaction.

Streams in the ledger: `verdicts/<name>` (a verdict, or rows passed over with the reason) and `reactions/<name>`
(started, finished). The ledger comes first; events and reports follow from it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.errors import Conflict, RegistryError
from trimtab.journal import reader
from trimtab.journal.window import Window, has_label
from trimtab.ledger import Ledger
from trimtab.monitoring.judge import judge, ready
from trimtab.monitoring.performance_reference import read_performance
from trimtab.monitoring.policy import Decision, Facts, about, decide
from trimtab.monitoring.profile import Profile, read_reference
from trimtab.monitoring.revisions import replaced_by, standing, told, with_successors
from trimtab.monitoring.verdict import Verdict
from trimtab.own_slices import slices_of_rows
from trimtab.recipe import Recipe, load_recipe
from trimtab.registry.follow import current_champion, download
from trimtab.registry.keys import Keyring
from trimtab.registry.package import PERFORMANCE, PROFILE, REFERENCE
from trimtab.registry.promotions import read_log
from trimtab.registry.signing import verify_release
from trimtab.retrain import NewRows, divide
from trimtab.settings import Settings
from trimtab.store import os_lock


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
        folder, keys = self.settings.home / "releases" / self.name / str(version), Keyring(self.settings.signing_keys)
        try:
            verify_release(folder, keys=keys, name=self.name)
        except RegistryError:
            download(self.settings.tracking_uri(), self.name, int(version), folder, keys)
        return folder

    def reference(self, version: str) -> tuple[Profile, dict[str, np.ndarray]]:
        """Profile and reference columns of a version."""
        folder = self.release(version)
        return Profile.from_json(json.loads((folder / PROFILE).read_bytes())), read_reference(folder / REFERENCE)

    def judge(self, window: Window, before: int | None = None) -> Verdict:
        """The verdict on a window.

        Args:
            before: what was recorded from this entry of the stream on is taken for not yet known.
        """
        version = str(window.version[-1])
        profile, columns = self.reference(version)
        return judge(
            window,
            profile,
            columns,
            self.recipe.monitoring,
            known=read_performance(self.release(version) / PERFORMANCE),
            past=standing(self.verdicts(before)),
            slices=partial(slices_of_rows, self.path) if self.recipe.verify.slices else None,
        )

    def record(self, verdict: Verdict) -> int:
        """Write the verdict down, with what it takes to make it again; two monitors at once: one wins.

        Raises:
            Conflict: another monitor judged this window first.
        """
        _, head = self.position()
        stands = replaced_by(standing(self.verdicts()), (verdict.lo, verdict.hi))
        if verdict.replaces is not None and (stands is None or stands.digest != verdict.replaces):
            what = f"rows {verdict.lo} to {verdict.hi} were judged again meanwhile"
            raise Conflict(what, where=f"verdicts/{self.name}", fix="judge them anew")
        entry = {"verdict": verdict.to_json(), "digest": verdict.digest, "lo": verdict.lo, "hi": verdict.hi}
        made_with = {"recipe": str(self.path.resolve()), "monitoring": self.recipe.monitoring.model_dump(mode="json")}
        return self.ledger.record(f"verdicts/{self.name}", {**entry, **made_with}, expect_seq=head)

    def facts(self) -> Facts:
        """What is so now: champion, promotion time, reactions."""
        promotions = read_log(self.ledger, self.name).done
        reactions = self.ledger.read(f"reactions/{self.name}")
        started = [item for item in reactions if item.entry["act"] == "started"]
        return Facts(
            champion_version=str(current_champion(self.settings.tracking_uri(), self.name)),
            promoted_at=_seconds(promotions[-1].time) if promotions else None,
            last_reaction_at=_seconds(started[-1].time) if started else None,
            reacted=self.reacted(),
        )

    def reacted(self) -> frozenset[str]:
        """Digests of the verdicts that have a reaction, and of those that replaced them since."""
        entries = [item.entry for item in self.ledger.read(f"reactions/{self.name}")]
        return with_successors((one["verdict"] for one in entries if one["act"] == "started"), self.verdicts())

    def decide(self, digest: str | None = None) -> Decision:
        """What the verdicts so far may start now: about the newest one, or the one with this digest."""
        past = self.verdicts()
        if any(verdict.replaces == digest for verdict in past if digest is not None):
            return Decision("none", "a later verdict on the same rows has replaced this one", digest or "")
        if digest is not None:
            known = [index for index, verdict in enumerate(past) if verdict.digest == digest]
            past = past[: known[-1] + 1] if known else []
        monitoring = self.recipe.monitoring
        return decide(past, self.facts(), monitoring.mode, monitoring.cooldown_s, time.time())

    def begin(self, decision: Decision, run: str) -> int:
        """Write down that a reaction starts, before it does.

        Raises:
            Conflict: another reaction started at the same moment.
        """
        stream = f"reactions/{self.name}"
        head = self.ledger.head(stream)
        if decision.verdict_digest in self.facts().reacted:
            return head
        entry = {"act": "started", "verdict": decision.verdict_digest, **decision.to_json(), "run": run}
        return self.ledger.record(stream, entry, expect_seq=head)

    def finish(self, decision: Decision, run: str, outcome: str, release: dict[str, Any] | None = None) -> None:
        """Write down how a reaction ended, with the release it made if it made one."""
        entry: dict[str, Any] = {"act": "finished", "verdict": decision.verdict_digest, "run": run, "outcome": outcome}
        if release is not None:
            entry["release"] = release
        self.ledger.record(f"reactions/{self.name}", entry, expect_seq=None)

    def unfinished(self, digest: str | None = None) -> Decision | None:
        """The reaction that was begun and not finished (of this verdict, or any); only true while none is running."""
        entries = [item.entry for item in self.ledger.read(f"reactions/{self.name}")]
        finished = {entry["verdict"] for entry in entries if entry["act"] == "finished"}
        for entry in entries:
            if entry["act"] == "started" and entry["verdict"] not in finished and digest in (None, entry["verdict"]):
                return Decision(entry["action"], entry["reason"], entry["verdict"])
        return None

    def done_already(self, digest: str) -> int | None:
        """The champion's version if it is the release that this verdict's reaction made (killed before it said so)."""
        version = current_champion(self.settings.tracking_uri(), self.name)
        if version is None:
            return None
        facts = json.loads((self.release(version) / "release.json").read_bytes())
        return version if facts.get("verdict") == digest else None

    def owed(self) -> str | None:
        """Digest of a verdict whose reaction no event started, or that a kill cut short; None if nothing is owed."""
        try:
            with self.reacting():
                cut_short = self.unfinished()
                if cut_short is not None:
                    return cut_short.verdict_digest
                if self.settled():
                    return None
                decision = self.decide()
                return decision.verdict_digest if decision.action == "retrain" else None
        except Conflict:
            return None

    def settled(self) -> bool:
        """Whether the newest verdict calls for nothing, whatever the registry says; it need not be asked then."""
        past = self.verdicts()
        return not past or past[-1].kind in ("healthy", "not_enough_rows")

    def unsaid(self) -> tuple[Decision, str] | None:
        """The newest verdict's decision and kind, if it calls for an alert that no event brought into the ledger."""
        if self.settled():
            return None
        decision = self.decide()
        if decision.action != "alert":
            return None
        said = {item.entry["body"] for item in self.ledger.read(f"alerts/{self.name}")}
        return None if about(decision.verdict_digest) in said else (decision, self.verdicts()[-1].kind)

    @contextmanager
    def reacting(self) -> Iterator[None]:
        """One reaction of a name at a time.

        Raises:
            Conflict: one is running.
        """
        with os_lock(self.settings.locks / f"react-{self.name}.lock", wait=False, what=f"a reaction for {self.name}"):
            yield

    def new_rows(self, digest: str) -> NewRows:
        """Labelled rows of the window a verdict is about, divided into training and held-out rows.

        Raises:
            DataError: too few labelled rows, or inputs were not journalled.
        """
        verdict = next(verdict for verdict in self.verdicts() if verdict.digest == digest)
        window = reader.window(self.journal, verdict.lo, verdict.hi)
        keep = has_label(np.asarray(window.label)) & (np.asarray(window.status) < 400) & np.asarray(window.has_inputs)
        inputs = {name: np.asarray(values)[keep] for name, values in (window.inputs or {}).items()}
        ids = [f"{request}/{row}" for request, row in zip(window.request_id[keep], window.row[keep], strict=True)]
        return divide(inputs, np.asarray(window.label)[keep], ids, self.recipe.monitoring.holdout, digest)


def _run_length(versions: np.ndarray) -> int:
    """How many rows from the start have the same version as the first."""
    if len(versions) == 0:
        return 0
    other = np.flatnonzero(versions != versions[0])
    return int(other[0]) if len(other) else len(versions)


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
