"""Names of Prefect artifacts, and where the pages they link to are served."""

from __future__ import annotations

from trimtab.recipe import Recipe
from trimtab.settings import Settings


def artifact_key(kind: str, name: str) -> str:
    """Prefect takes lower-case letters, digits and dashes only."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in f"{kind}-{name}".lower())


def page_url(settings: Settings, recipe: Recipe, page: str) -> str | None:
    """Address of a page under <home>/reports; None where no service of ours serves it (none, or stock MLflow)."""
    base = settings.scoring_for(recipe.name)
    return f"{base}/reports/{page}" if base and recipe.serving.backend == "trimtab" else None
