"""A verdict that was written before there were scores is read as it was, digest and all."""

from __future__ import annotations

import json

import monitoring_world as world

from trimtab.candidate import digest_of
from trimtab.monitoring.judge import judge
from trimtab.monitoring.verdict import Verdict

ADDED_FOR_READERS = ("digest", "drifted", "coverage", "error_rate")


def test_a_verdict_from_before_there_were_scores_keeps_its_digest() -> None:
    profile, reference = world.release()
    old = judge(world.window(contrast=0.5), profile, reference, world.MONITORING).to_json()
    for added in ("gradual", *ADDED_FOR_READERS):
        old.pop(added, None)
    old["columns"] = [
        {key: value for key, value in column.items() if key not in ("score", "limit")} | {"test": "ks"}
        for column in old["columns"]
    ]
    read = Verdict.from_json(json.loads(json.dumps(old)))
    assert read.digest == digest_of(old)
    assert read.drifted == tuple(column["name"] for column in old["columns"] if column["drifted"])
    assert read.gradual == ()
    written = read.to_json()
    assert {key: value for key, value in written.items() if key not in ADDED_FOR_READERS} == old
