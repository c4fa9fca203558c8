"""Each finalist beside the champion, at the figure that was too much; and what a recompression is identified by."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks import optimize, rivalry
from trimtab.candidate import Converted
from trimtab.compress.assess import build_name
from trimtab.errors import StateError
from trimtab.recipe.schema import Measure
from trimtab.recompress import Recompress
from trimtab.settings import Settings
from trimtab.verify.rival import Rival
from trimtab.workbench import Workbench

RECIPE = """
name: demo
model: net:build
data: net:split
budget: {min_size_ratio: 2.0}
"""


def build(candidate: str, size: int) -> Converted:
    return Converted(candidate, "onnxruntime-cpu", "fp32", {}, size)


def bench(figure: str) -> Any:
    measure = Measure(batch_sizes=[1], rounds=3, calls=5)
    gate = SimpleNamespace(inputs={"input": np.zeros((4, 2), np.float32)})
    return SimpleNamespace(
        recompress=Recompress("digest", figure, 2.0),  # type: ignore[arg-type]
        recipe=SimpleNamespace(measure=measure),
        splits={"gate": gate},
    )


def test_without_a_recompression_or_a_champion_nothing_is_compared() -> None:
    assert rivalry.against_champion(SimpleNamespace(recompress=None), 1, [], {}, 1) == {}  # type: ignore[arg-type]
    assert rivalry.against_champion(bench("size"), None, [], {}, 1) == {}


def test_size_is_compared_with_what_the_champion_ships() -> None:
    small, same = build("a", 250), build("b", 500)

    found = rivalry.against_champion(bench("size"), 1, [small, same], {}, 1000)

    assert found[build_name(small)].gain == 2
    assert found[build_name(same)].gain == 1


def test_latency_is_measured_beside_the_champion(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(baseline: Any, predictors: dict[str, Any], inputs: Any, settings: Any) -> Any:
        assert baseline == "the champion"
        figures = {name: {1: SimpleNamespace(p50_s=0.001, speedup=gain)} for name, gain in predictors.items()}
        return SimpleNamespace(
            by_name={**figures, "baseline": {1: SimpleNamespace(p50_s=0.004)}}, noise_floor={1: 0.05}
        )

    monkeypatch.setattr(rivalry, "_champion", lambda bench, champion: (Path("folder"), "onnxruntime-cpu"))
    monkeypatch.setattr(rivalry.runtime, "load", lambda target, folder, threads: "the champion")
    monkeypatch.setattr(rivalry, "measure", timed)

    found = rivalry.against_champion(bench("latency"), 1, [], {"fast": 4.0, "slow": 0.9}, 1)

    assert found == {
        "fast": Rival("latency", 4.0, 1.0, 4.0, 0.05),
        "slow": Rival("latency", 4.0, 1.0, 0.9, 0.05),
    }


def test_a_recompression_for_size_asks_for_less_than_the_champion_and_is_measured_anew(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    settings = Settings(home=tmp_path / "home")

    def opened(*figures: Any) -> Workbench:
        return Workbench(tmp_path / "recipe.yaml", settings, None, Recompress("digest", *figures))

    assert opened("size", 3.0).recipe.budget.min_size_ratio == pytest.approx(3.03)
    assert opened("size", 1.0).recipe.budget.min_size_ratio == 2.0
    assert opened("latency", 3.0).recipe.budget.min_size_ratio == 2.0


def test_an_original_that_is_gone_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    gone: Any = SimpleNamespace(stored=lambda identity: None, settings=Settings(home=tmp_path))

    with pytest.raises(StateError, match="not there any more"):
        optimize._kept(gone, "abc")
