"""Exploring: measured before trained, resumed without repeating, the same for the same seed, spared by the model."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trimtab.compress.search.explore import (
    Explored,
    Measured,
    Probe,
    explore,
    mirror_of,
    model_of,
    noise_of,
    promising,
)
from trimtab.compress.search.shape import Shape
from trimtab.compress.search.space import Space
from trimtab.compress.search.study import Study
from trimtab.errors import UnsupportedError

SPACE = Space(
    blocks={"b1": 0.1, "b2": 0.4, "b3": 0.2},
    groups={f"b{i}.conv": {0.25: 0.05 * i, 0.5: 0.1 * i} for i in (1, 2, 3)},
    norms=("l1", "l2"),
)


def cost(shape: Shape) -> dict[str, float]:
    """Each block costs a third, less where its channels are fewer."""
    left = [b for b in SPACE.blocks if b not in shape.dropped]
    macs = sum(1 - shape.ratios.get(f"{block}.conv", 0.0) for block in left) / 3
    return {"macs": macs, "activations": macs, "parameters": macs, "layers": len(left) / 3}


def probe(shape: Shape) -> Probe:
    damage = sum(SPACE.blocks[b] for b in shape.dropped)
    damage += sum(SPACE.groups[root][ratio] for root, ratio in shape.ratios.items())
    return Probe(damage, cost(shape))


def measure(shape: Shape) -> Measured:
    latency = 0.1 + 0.6 * cost(shape)["macs"] + 0.3 * cost(shape)["layers"]
    return Measured(
        {"int8 on a": {1: 1 / latency, 32: 1 / latency}, "fp32 on b": {1: 0.5, 32: 0.5}}, {1: 1.01, 32: 1.0}
    )


def study(path: Path, seed: int = 3) -> Study:
    return Study(path / "s.journal", seed, SPACE.design())


def keys(found: list[Explored]) -> list[str]:
    return [one.shape.key for one in found]


def test_the_first_shape_is_the_original_and_blocks_go_by_how_little_they_matter() -> None:
    dropped = [sorted(k[6:] for k, v in one.items() if v == "dropped") for one in SPACE.design()]
    assert dropped[:4] == [[], ["b1"], ["b1", "b3"], ["b1", "b2", "b3"]]
    assert len({str(one) for one in SPACE.design()}) == len(SPACE.design())


def test_groups_inside_a_dropped_block_are_not_asked_for() -> None:
    for parameters in SPACE.design():
        gone = [key[6:] for key, value in parameters.items() if value == "dropped"]
        assert not any(f"ratio {block}.conv" in parameters for block in gone)


def test_each_shape_comes_once_and_nothing_is_measured_twice(tmp_path: Path) -> None:
    asked: list[str] = []

    def counted(shape: Shape) -> Measured:
        asked.append(shape.key)
        return measure(shape)

    found = explore(SPACE, study(tmp_path), 40, probe, counted)

    assert len(set(keys(found))) == len(found)
    assert len(asked) == len(set(asked))
    assert found[0].shape.whole
    assert found[0].latency == pytest.approx(1.0)


def test_stopped_and_gone_on_with_it_finds_what_it_would_have_found(tmp_path: Path) -> None:
    whole = explore(SPACE, study(tmp_path / "a"), 30, probe, measure)
    for trials in (7, 19, 30):
        parts = explore(SPACE, study(tmp_path / "b"), trials, probe, measure)
    assert keys(parts) == keys(whole)
    assert keys(explore(SPACE, study(tmp_path / "c", seed=4), 30, probe, measure)) != keys(whole)


def test_killed_while_measuring_it_goes_on_without_repeating(tmp_path: Path) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import os
from pathlib import Path
import test_compress_explore as t
left = [6]
def dying(shape):
    left[0] -= 1
    if not left[0]: os._exit(9)
    return t.measure(shape)
t.explore(t.SPACE, t.study(Path({str(tmp_path / "killed")!r})), 30, t.probe, dying)
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False)
    assert done.returncode == 9
    asked: list[str] = []
    opened = study(tmp_path / "killed")
    before = {one.shape.key for one in explore(SPACE, opened, 0, probe, measure)}

    found = explore(SPACE, opened, 30, probe, lambda shape: (asked.append(shape.key), measure(shape))[1])

    assert len(before) == 5
    assert not before & set(asked)
    assert keys(found) == keys(explore(SPACE, study(tmp_path / "whole"), 30, probe, measure))


def test_a_trial_killed_while_its_facts_were_written_comes_again(tmp_path: Path) -> None:
    first = study(tmp_path).ask()
    shape = SPACE.suggest(first)
    first.set_user_attr("shape", shape.to_json())  # and the process died here, before the trial was told

    again = study(tmp_path)

    assert again.done() == []
    assert SPACE.suggest(again.ask()).key == shape.key


def test_orders_of_the_same_steps_are_tried_and_their_latency_is_measured_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def counted(shape: Shape) -> Measured:
        asked.append(shape.cuts)
        return measure(shape)

    def worse_first(shape: Shape) -> Probe:
        seen = probe(shape)
        return Probe(seen.divergence + (0.01 if shape.first == "shorten" else 0.0), seen.features)

    found = explore(SPACE, study(tmp_path), 60, worse_first, counted)

    timed = [one for one in found if one.measured is not None]
    firsts = {one.shape.cuts: {o.shape.first for o in timed if o.shape.cuts == one.shape.cuts} for one in timed}
    both = [graph for graph, orders in firsts.items() if len(orders) == 2]
    assert both, "the sampler tried no shape in both orders"
    assert len(asked) == len(set(asked))
    for graph in both:
        assert len({one.latency for one in timed if one.shape.cuts == graph}) == 1
    chosen = promising(found, 50)
    assert len({one.shape.cuts for one in chosen}) == len(chosen)
    assert {one.shape.first for one in chosen if one.shape.cuts in both} == {"prune"}


def test_the_same_steps_in_another_order_that_give_another_graph_are_measured(tmp_path: Path) -> None:
    """E.g. a group that one order leaves whole: what is known of the other says nothing of it."""
    shape = Shape(("b1",), {"b2.conv": 0.5}, "l1")
    turned = replace(shape, first="prune")
    known = Explored(0, shape, Probe(0.1, {"macs": 0.5}), 0.5, None, measure(shape))
    assert mirror_of(turned, Probe(0.2, {"macs": 0.5}), [known]) is known
    assert mirror_of(turned, Probe(0.2, {"macs": 0.6}), [known]) is None
    wholer = Explored(1, turned, Probe(0.05, {"macs": 0.6}), 0.6, None, measure(shape))
    assert promising([known, wholer], 9) == [known, wholer]  # slower and nearer to the original: both are of use


def test_a_shape_is_read_as_it_was_written_also_from_before_there_was_an_order() -> None:
    shape = Shape(("b1",), {"b2.conv": 0.5}, "l1", "prune")
    assert Shape.from_json(shape.to_json()) == shape
    old = {key: value for key, value in shape.to_json().items() if key != "first"}
    assert Shape.from_json(old) == replace(shape, first="shorten")


def test_a_shape_the_model_cannot_take_is_noted_and_not_proposed_again_and_again(tmp_path: Path) -> None:
    def picky(shape: Shape) -> Probe:
        if "b2" in shape.dropped:
            raise UnsupportedError("b2 is needed", where="model")
        return probe(shape)

    opened = study(tmp_path)
    found = explore(SPACE, opened, 25, picky, measure)

    assert not any("b2" in one.shape.dropped for one in found)
    assert any("b2 is needed" in trial.user_attrs.get("error", "") for trial in opened.done())
    assert len(opened.done()) == 25


def test_the_latency_model_spares_shapes_that_would_be_beaten_and_its_predictions_hold(tmp_path: Path) -> None:
    found = explore(SPACE, study(tmp_path), 60, probe, measure)

    spared = [one for one in found if one.measured is None]
    assert spared
    for one in spared:
        truth = 0.1 + 0.6 * one.probe.features["macs"] + 0.3 * one.probe.features["layers"]
        assert one.latency == pytest.approx(truth, rel=0.05)
        better = [o for o in found if o.measured and o.probe.divergence <= one.probe.divergence and o.latency < truth]
        assert better
    model = model_of(found)
    assert model is not None
    assert model.error < 0.05


def test_no_more_trials_are_begun_when_time_is_up(tmp_path: Path) -> None:
    answers = iter([True, True, True, False])
    assert len(explore(SPACE, study(tmp_path), 30, probe, measure, lambda: next(answers))) == 3


def explored(name: str, divergence: float, latency: float, measured: bool = True, itself: float = 1.0) -> Explored:
    seen = Measured({"a": {1: 1 / latency}}, {1: itself}) if measured else None
    return Explored(0, Shape(dropped=(name,)), Probe(divergence, {}), latency, None, seen)


def test_promising_shapes_are_the_front_first_spread_along_it_without_its_ends() -> None:
    front = [explored(f"f{i}", 1.0 - 0.1 * i, 0.3 + 0.05 * i) for i in range(10)]
    beaten = [explored(f"x{i}", 1.1 - 0.1 * i, 0.35 + 0.05 * i) for i in range(10)]
    spared = [explored("s", 0.0, 0.1, measured=False)]

    chosen = promising([*beaten, *front, *spared], 4)

    assert [one.shape.dropped[0] for one in chosen] == ["f1", "f3", "f6", "f8"]
    assert len(promising([*beaten, *front], 12)) == 12
    assert len(promising([*beaten, *front], 4, 9)) == 9
    # The next front is not used.
    assert {one.shape.dropped[0][0] for one in promising([*beaten, *front], 4, 30)} == {"f"}
    assert len(promising([*beaten, *front], 12, 30)) == 12


def test_more_shapes_are_taken_where_the_answers_change_fast() -> None:
    crowded = [explored(f"c{i}", 2.3 - 0.01 * i, 0.30 + 0.01 * i) for i in range(12)]
    few = [explored(f"f{i}", 1.6 - 0.5 * i, 0.45 + 0.02 * i) for i in range(4)]
    chosen = [one.shape.dropped[0][0] for one in promising([*crowded, *few], 4)]
    assert chosen == ["c", "c", "f", "f"]  # by count alone it would be three of the crowd


def test_the_shape_of_the_original_is_never_trained_as_one_of_them() -> None:
    whole = Explored(0, Shape(), Probe(0.0, {}), 1.0, None, Measured({"a": {1: 1.0}}, {1: 1.0}))
    assert promising([whole], 3) == []


def test_a_shape_that_is_faster_by_less_than_the_noise_is_not_trained() -> None:
    field = [explored(f"f{i}", 1.0 - 0.1 * i, 0.75 + 0.05 * i, itself=1.1) for i in range(5)]
    assert [one.shape.dropped[0] for one in promising(field, 9)] == ["f0", "f1", "f2", "f3"]  # 0.9 < 1 / 1.1 < 0.95
    assert noise_of(field) == pytest.approx(0.1)
