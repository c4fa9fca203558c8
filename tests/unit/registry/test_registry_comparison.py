"""Knobs of candidates: the same keys in every child run."""

from __future__ import annotations

from trimtab.candidate import Step
from trimtab.registry.comparison import knobs

TRAIN = Step("train", {"lr": 0.1}, seed=1)


def test_every_candidate_has_every_key_and_what_it_was_not_given_is_none() -> None:
    given = [Step("prune", {"norm": "l1", "inner": {"a": value}}) for value in (None, 2)]
    plain, pruned, other = knobs([(TRAIN,), *((TRAIN, step) for step in given)])
    assert plain.keys() == pruned.keys() == other.keys()
    assert plain["prune.norm"] == "none"
    assert pruned["prune.norm"] == "l1"
    assert (pruned["prune.inner.a"], other["prune.inner.a"]) == ("none", "2")
    assert (plain["methods"], pruned["methods"]) == ("train", "train prune")


def test_what_all_candidates_share_and_labels_are_left_out() -> None:
    mild = Step("prune", {"norm": "l1", "ratio": 0.2, "label": "prune-l1-0.2"}, seed=3)
    hard = Step("prune", {"norm": "l1", "ratio": 0.5, "label": "prune-l1-0.5"}, seed=3)
    found = knobs([(TRAIN, mild), (TRAIN, hard)])
    assert found == [
        {"methods": "train prune", "prune.ratio": "0.2"},
        {"methods": "train prune", "prune.ratio": "0.5"},
    ]


def test_one_candidate_alone_keeps_its_parameters_on_one_target_and_on_several() -> None:
    lineage = (TRAIN, Step("quantize", {"per_channel": True, "label": "int8"}))
    (alone,) = knobs([lineage])
    assert alone == {
        "methods": "train quantize",
        "quantize.per_channel": "True",
        "train.lr": "0.1",
        "train.seed": "1",
    }
    assert knobs([lineage, lineage]) == [alone, alone]
    assert knobs([]) == []


def test_a_method_used_twice_keeps_both_settings() -> None:
    (values,) = knobs([(Step("prune", {"ratio": 0.2}), Step("prune", {"ratio": 0.5}))])
    assert (values["prune.ratio"], values["prune-2.ratio"]) == ("0.2", "0.5")
