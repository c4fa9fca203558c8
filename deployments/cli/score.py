"""`trimtab score`: a registered release over a Parquet dataset, resumed where it was left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from deployments.cli.flows import need_servers
from deployments.cli.output import AsJson, Home, emit, errors, settings_for
from trimtab.errors import RecipeError


def score(
    release: Annotated[str, typer.Argument(help="A recipe, or NAME, NAME@alias, NAME/VERSION.", show_default=False)],
    inputs: Annotated[Path, typer.Option("--input", help="A Parquet file, or a folder of them.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", help="The Parquet file that is made.", show_default=False)],
    version: Annotated[int | None, typer.Option("--version", min=1, help="This version.", show_default=False)] = None,
    alias: Annotated[str | None, typer.Option("--alias", help="Default: champion.", show_default=False)] = None,
    key: Annotated[list[str] | None, typer.Option("--key", help="Copy this column into the output.")] = None,
    ignore: Annotated[list[str] | None, typer.Option("--ignore", help="This column is no feature.")] = None,
    batch_rows: Annotated[int, typer.Option("--batch-rows", help="Rows a call of the model.")] = 1024,
    on_error: Annotated[str, typer.Option("--on-error", help="A row that cannot be scored: fail or null.")] = "fail",
    journal: Annotated[bool, typer.Option("--journal", help="Journal the rows, so that they are watched.")] = False,
    through_service: Annotated[
        bool, typer.Option("--through-service", help="Let the scoring service answer and journal the rows.")
    ] = False,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of the runtime.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what an unfinished run did.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Score every row of a Parquet file or folder with one version of a release; started again, it goes on.

    Example: trimtab score digits --input may.parquet --output scores.parquet --key customer
    """
    with errors(as_json):
        from trimtab.scoring_batch.order import Order

        meant, keys, ignored = reference(release, version, alias), tuple(key or ()), tuple(ignore or ())
        Order(meant, 0, inputs, output, keys, ignored, batch_rows, on_error, threads=threads)  # type: ignore[arg-type]
        need_servers(home)
        from prefect import tags

        from flows.score import score as flow

        settings = settings_for(home)
        with tags("trimtab", meant.partition("@")[0].partition("/")[0]):
            found = flow(
                meant,
                str(settings.home),
                str(inputs.resolve()),
                str(output.resolve()),
                keys=list(keys),
                ignored=list(ignored),
                batch_rows=batch_rows,
                on_error=cast(Literal["fail", "null"], on_error),  # `Order` refuses others
                journal=journal,
                through_service=through_service,
                threads=threads,
                restart=restart,
            )
        emit(found, as_json, text_of(found))


def reference(release: str, version: int | None, alias: str | None) -> str:
    """The release that is meant, as `Reference` reads it; of a recipe its name.

    Raises:
        RecipeError: more than one of version, alias and what the argument itself says.
    """
    from trimtab.recipe.load import load_recipe
    from trimtab.registry.reference import Reference

    path = Path(release)
    of_recipe = path.suffix in (".yaml", ".yml")
    meant = Reference(load_recipe(path).name) if of_recipe else Reference.parse(release)
    said = not of_recipe and release.removeprefix("models:/") != meant.name
    if (version is not None) + (alias is not None) + said > 1:
        raise RecipeError("the version is said more than once", where=release, fix="give --version or --alias alone")
    if version is not None:
        return str(Reference(meant.name, None, version))
    return str(meant if alias is None else Reference.parse(f"{meant.name}@{alias}"))


def text_of(found: dict[str, Any]) -> str:
    """What was made, in two lines."""
    before = f", {found['resumed']} of them by an earlier run" if found["resumed"] else ""
    where = found["output"].replace("[", "\\[")
    first = f"[green]{where}[/green]: {found['rows']} rows by {found['name']} version {found['version']}"
    lines = [first + before]
    if found["bad"]:
        lines.append(f"  {found['bad']} rows have no answer, e.g. {found['examples'][0]}".replace("[", "\\["))
    return "\n".join(lines)
