"""Labels that come late, on the real servers: an estimate first, then another verdict on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from e2e_world import CODE, World

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

SLICES = """

def parts(split, inputs=None):
    features = rows(split)[0] if inputs is None else inputs["input"]
    return {"left": features[:, 0] > 1}
"""


def prepared(world: World) -> Path:
    """A recipe that waits for no labels, acts on nothing, and has slices that can be computed of a window."""
    recipe = world.recipe("late", seed=5)
    text = recipe.read_text().replace("min_labels: 100}", "min_labels: 60, label_wait_s: 0}\n  mode: observe")
    recipe.write_text(text + "verify: {slices: net:parts}\n")
    (recipe.parent / "net.py").write_text(CODE + SLICES)
    return recipe


def send(world: World, moved: bool) -> list[dict[str, Any]]:
    """120 rows without labels; the labels as they can be posted."""
    space: dict[str, Any] = {}
    exec(CODE, space)
    features, labels = space["rows"]("traffic")
    sent = np.roll(features, 1, axis=1) + 1.5 if moved else features
    truth = []
    with httpx.Client(timeout=30) as client:
        for row, values in enumerate(sent):
            answer = client.post(f"{world.settings.scoring['late']}/invocations", json={"instances": [values.tolist()]})
            assert answer.status_code == 200, answer.text
            truth.append({"request_id": answer.headers["X-Request-Id"], "row": 0, "label": int(labels[row])})
    return truth


def recorded(world: World, seq: int) -> dict[str, Any]:
    """A verdict, which must come out the same again."""
    found = world.trimtab("verdict", "late", str(seq), "--recompute")
    assert found["same"], found["differs"]
    verdict: dict[str, Any] = found["verdict"]
    return verdict


def test_a_window_is_estimated_and_judged_again_when_its_labels_come(world: World) -> None:
    recipe = prepared(world)
    world.trimtab("up", recipe)
    world.trimtab("release", recipe)

    truth = send(world, moved=False)
    assert world.trimtab("monitor", recipe)["verdict"] == "healthy"
    healthy = recorded(world, 1)
    assert healthy["performance"]["answer"] == "too_few_labels"
    assert healthy["estimated"]["value"]["low"] > 0.9

    moved = send(world, moved=True)
    assert world.trimtab("monitor", recipe)["verdict"] == "drift"
    assert recorded(world, 2)["estimated"]["answer"] == "cannot_tell"

    url = world.settings.scoring["late"]
    httpx.post(f"{url}/labels", json=[*truth[:40], *moved]).raise_for_status()
    again = world.trimtab("monitor", recipe)
    assert (again["verdict"], [one["verdict"] for one in again["reopened"]]) == (None, ["drift+damage"])
    late = recorded(world, 3)
    assert (late["kind"], late["revision"], late["replaced_kind"]) == ("drift+damage", 1, "drift")
    assert (late["lo"], late["labels"]["in_window"]) == (120, 120)
    left = next(figure for figure in late["figures"] if figure["of"] == "slice left")
    assert left["verified"] > 0.9
    assert (
        world.trimtab("verdict", "late", "4", expect=7)["fix"] == "there are: entries 1 to 3"
    )  # 40 labels re-open none
    assert (world.home / "reports" / "late" / "window-120-240-1.html").exists()
