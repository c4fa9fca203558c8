"""`trimtab approve` and `breaker`: a person's word in what verdicts start."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deployments.cli.output import AsJson, Home, emit, errors, settings_for
from trimtab.errors import StateError
from trimtab.settings import Settings

Name = Annotated[str, typer.Argument(help="Name of the registered model.", show_default=False)]


def approve(name: Name, home: Home = None, as_json: AsJson = False) -> None:
    """Agree to the reaction that waits (monitoring.mode: propose); the same as Resume in the Prefect UI.

    Example: trimtab approve digits
    """
    with errors(as_json):
        from trimtab import reactions
        from trimtab.ledger import Ledger
        from trimtab.registry.author import author
        from trimtab.registry.names import release_name

        settings = settings_for(home)
        ledger = Ledger(settings.ledger)
        waiting = reactions.read(ledger, release_name(name)).open_proposal()
        if waiting is None:
            raise StateError("no reaction waits to be approved", where=name, fix="see `trimtab status NAME`")
        decision = waiting.decision
        reactions.approve(ledger, name, decision.verdict_digest, author())
        how = _go_on(settings, name, waiting.run, decision.verdict_digest)
        found = {"name": name, "action": decision.action, "verdict": decision.verdict_digest, "reason": decision.reason}
        emit({**found, "run": how}, as_json, f"{name}: {decision.action} approved; {how}. Why: {decision.reason}")


def breaker(
    name: Name,
    close: Annotated[bool, typer.Option("--close", help="Forget the reactions that did not help.")] = False,
    why: Annotated[str, typer.Option("--why", help="The reason; it goes into the ledger.")] = "closed by hand",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """How many reactions in a row did not help, and whether that stops further ones.

    Example: trimtab breaker digits --close --why "the labels were wrong; they are mended"
    """
    with errors(as_json):
        from trimtab import reactions
        from trimtab.ledger import Ledger
        from trimtab.registry.author import author
        from trimtab.registry.names import release_name

        settings = settings_for(home)
        ledger = Ledger(settings.ledger)
        if close:
            reactions.close_breaker(ledger, release_name(name), author(), why)
        found = _state(settings, release_name(name))
        state = "open" if found["open"] else "closed"
        text = f"{name}: {state}; {found['failures']} reactions in a row did not help, {found['limit']} open it"
        emit(found, as_json, text)


def _state(settings: Settings, name: str) -> dict[str, Any]:
    from trimtab.monitoring.breaker import failures
    from trimtab.monitoring.revisions import standing
    from trimtab.watch import Watch

    watch = Watch(deployed_recipe(settings, name), settings)
    policy, book = watch.recipe.monitoring.policy, watch.book()
    count = failures(book.reactions, standing(watch.verdicts()), policy.n, book.closed_at)
    limit = policy.breaker.failures
    return {"name": name, "open": count >= limit, "failures": count, "limit": limit}


def deployed_recipe(settings: Settings, name: str) -> str:
    """Path of the recipe that `monitor/<name>` was deployed with.

    Raises:
        StateError: it is not deployed, or no Prefect server is known.
    """
    from prefect.exceptions import ObjectNotFound

    from deployments.prefect_api import prefect_client

    with prefect_client(settings) as client:
        try:
            return str(client.read_deployment_by_name(f"monitor/{name}").parameters["recipe"])
        except ObjectNotFound:
            raise StateError("its flows are not deployed", where=name, fix="run `trimtab up RECIPE`") from None


def _go_on(settings: Settings, name: str, run: str, digest: str) -> str:
    """Resume the run that waits; where it is gone, start a new one, which finds the approval in the ledger."""
    from uuid import UUID

    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.responses import SetStateStatus
    from prefect.exceptions import ObjectNotFound

    from deployments.deploy import deployment_id
    from deployments.prefect_api import prefect_client

    with prefect_client(settings) as client:
        try:
            found = client.read_flow_run(UUID(run))
            if found.state_type == StateType.PAUSED:
                answer = client.resume_flow_run(found.id)
                if answer.status == SetStateStatus.ACCEPT:
                    return f"flow run {found.name} goes on"
        except (ObjectNotFound, ValueError):
            pass
        created = client.create_flow_run_from_deployment(
            deployment_id(client, f"react/{name}"), parameters={"verdict": digest}
        )
        return f"flow run {created.name} starts"
