"""Knobs of candidates: the same keys in every child run."""

from __future__ import annotations

from trimtab.candidate import Step
from trimtab.registry.comparison import knobs

TRAIN = Step("train", {"lr": 0.1}, seed=1)


def test_every_candidate_has_every_key_and_what_it_was_not_given_is_none() -> None:
    plain, pruned = knobs([(TRAIN,), (TRAIN, Step("prune", {"norm": "l1", "inner": {"a": None}}))])
    assert plain.keys() == pruned.keys()
    assert plain["prune.norm"] == "none"
    assert pruned["prune.norm"] == "l1"
    assert pruned["prune.inner.a"] == "none"
    assert (plain["methods"], pruned["methods"]) == ("train", "train prune")
    assert plain["train.seed"] == "1"


def test_a_method_used_twice_keeps_both_settings() -> None:
    (values,) = knobs([(Step("prune", {"ratio": 0.2}), Step("prune", {"ratio": 0.5}))])
    assert (values["prune.ratio"], values["prune-2.ratio"]) == ("0.2", "0.5")
