"""What a watch over one release name knows: recipe, places, the ledger's verdicts and reactions, releases."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from trimtab import reactions
from trimtab.errors import StateError
from trimtab.ledger import Ledger
from trimtab.monitoring.revisions import told
from trimtab.monitoring.verdict import Verdict
from trimtab.recipe import Recipe, load_recipe
from trimtab.registry.copies import release_folder
from trimtab.registry.follow import current_champion
from trimtab.registry.package import RELEASE
from trimtab.settings import Settings


class Known:
    """What everything else of the watch is made from; it writes nothing down.

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

    @property
    def challenger_journal(self) -> Path:
        """The same of what its challengers answered; no window is judged of it."""
        return self.settings.challenger_journal(self.name)

    def verdicts(self, before: int | None = None) -> list[Verdict]:
        """Every verdict so far, or before an entry of the stream, oldest first (late labels: see `revisions.told`)."""
        last = next(reversed(self._recorded), 0)  # the stream only grows: what was read is not read again
        for item in self.ledger.read(f"verdicts/{self.name}", after=last):
            verdict = item.entry.get("verdict")
            self._recorded[item.seq] = None if verdict is None else Verdict.from_json(verdict)
        known = [one for seq, one in self._recorded.items() if before is None or seq < before]
        return told(one for one in known if one is not None)

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

    def book(self) -> reactions.Book:
        """What the ledger has of reactions."""
        return reactions.read(self.ledger, self.name)

    def champion(self) -> int | None:
        """The version that serves; None where none does."""
        return current_champion(self.settings.tracking_uri(), self.name)

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
