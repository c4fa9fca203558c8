"""Roll the champion out and check it, on our service or on stock `mlflow models serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from prefect import flow

from tasks.naming import described, run_name
from tasks.serve import stock_file, wait_for_version
from trimtab.errors import RegistryError, StateError
from trimtab.recipe import load_recipe
from trimtab.registry.follow import current_champion
from trimtab.settings import Settings


@flow(name="serve", flow_run_name=run_name("serve {recipe}"))
def serve(
    recipe: Annotated[str, described("Path of the recipe file.")],
    home: Annotated[str, described("State directory of the stack.")],
) -> dict[str, Any]:
    """See that the champion of the recipe's release is what answers."""
    settings, parsed = Settings.load(Path(home)), load_recipe(recipe)
    name = parsed.name
    version = current_champion(settings.tracking_uri(), name)
    if version is None:
        raise RegistryError("has no champion", where=name, fix="make one with `trimtab release`")
    url = settings.scoring_for(name)
    if url is None:
        raise StateError("no scoring service for it", where=name, fix="start one with `trimtab up RECIPE`")
    wait_for_version(settings.home, name, version, stock_file(settings, parsed))
    return {"name": name, "version": version, "url": url}
