"""Deploy what prefect.yaml describes for a recipe, through Prefect's client.

Not through `prefect deploy`: redeploying there makes schedules that a user added or paused active again or drops them,
and moves an interval's starting point. Imports Prefect: `deployments.environment.apply` comes first.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.templating import apply_values

import trimtab
from deployments.environment import PACKAGE_ROOT
from deployments.prefect_api import prefect_client
from deployments.stack.runs import ensure_pool
from trimtab.recipe.load import load_recipe
from trimtab.settings import Settings

PREFECT_FILE = Path(__file__).with_name("prefect.yaml")
DAY_S = 86_400
ANCHOR = "2025-01-01T00:00:00+00:00"


def deploy(settings: Settings, recipe_path: Path, *, root: Path = PACKAGE_ROOT) -> list[str]:
    """Create or update the deployments of a recipe.

    Args:
        root: the folder whose flows/ is deployed.

    Returns:
        Full names, e.g. release/digits.

    Raises:
        RecipeError: the recipe is not valid.
        StateError: no Prefect server is known.
    """
    recipe_path = recipe_path.resolve()
    recipe = load_recipe(recipe_path)
    values = {
        **{"name": recipe.name, "recipe": str(recipe_path), "home": str(settings.home), "root": str(root)},
        **{"python": shlex.quote(sys.executable), "anchor": ANCHOR},
        **recipe.monitoring.schedule.model_dump(exclude_none=True),
        **{f"sweep_{key}": value for key, value in recipe.monitoring.sweep.model_dump(exclude_none=True).items()},
    }
    written = yaml.safe_load(PREFECT_FILE.read_text())
    with prefect_client(settings) as client:
        ensure_pool(client)
        return [
            _deploy_one(client, apply_values(entry, values), apply_values(written["pull"], values), root)
            for entry in written["deployments"]
        ]


def schedule_of(written: Mapping[str, Any]) -> SCHEDULE_TYPES:
    """Prefect's schedule for one entry of `schedules:`; the time zone is always stated.

    A short interval is stated in UTC, where every hour comes once: in a zone with summer time Prefect 3.9.1 counts it
    in local time, and makes no run at all in the hour that comes twice in autumn.
    """
    zone = written["timezone"]
    if "cron" in written:
        return CronSchedule(cron=written["cron"], timezone=zone)
    if written["interval"] < DAY_S:
        zone = "UTC"
    return IntervalSchedule(interval=written["interval"], anchor_date=written["anchor_date"], timezone=zone)


def _deploy_one(client: SyncPrefectClient, entry: dict[str, Any], pull: list[Any], root: Path) -> str:
    path, _, function = entry["entrypoint"].rpartition(":")
    flow: Flow[..., Any] = load_flow_from_entrypoint(f"{root / path}:{function}")
    full_name = f"{flow.name}/{entry['name']}"
    limit: dict[str, Any] = entry.get("concurrency_limit", {})
    facts = {
        "version": trimtab.__version__,
        "description": flow.description,
        "tags": entry["tags"],
        "parameters": entry["parameters"],
        "parameter_openapi_schema": parameter_schema(flow).model_dump(exclude_unset=True),
        "enforce_parameter_schema": True,
        "entrypoint": entry["entrypoint"],
        "pull_steps": pull,
        "work_pool_name": entry["work_pool"]["name"],
        "job_variables": entry["work_pool"]["job_variables"],
        "concurrency_limit": limit.get("limit"),
        "concurrency_options": ConcurrencyOptions(**limit) if limit else None,
    }
    try:
        existing = client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        identity = client.create_deployment(client.create_flow_from_name(flow.name), entry["name"], **facts)
        existing = client.read_deployment(identity)
    else:
        # Without `schedules` and `paused`: both stay as they are.
        client.update_deployment(existing.id, DeploymentUpdate(**facts))
    for written in entry.get("schedules", []):
        _put_schedule(client, existing, written["slug"], schedule_of(written))
    return full_name


def _put_schedule(client: SyncPrefectClient, deployment: DeploymentResponse, slug: str, wanted: SCHEDULE_TYPES) -> None:
    """Create the schedule, or change its times; one that a user paused stays paused, others are left alone."""
    for existing in deployment.schedules:
        if existing.slug == slug:
            if existing.schedule != wanted:
                client.update_deployment_schedule(deployment.id, existing.id, schedule=wanted)
            return
    new = DeploymentScheduleCreate(schedule=wanted, active=True, slug=slug)
    client.create_deployment_schedules(deployment.id, [new])


def deployment_id(client: SyncPrefectClient, full_name: str) -> UUID:
    """Id of a deployment.

    Raises:
        ObjectNotFound: it is not deployed.
    """
    return client.read_deployment_by_name(full_name).id
