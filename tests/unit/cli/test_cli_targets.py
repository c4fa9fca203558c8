"""`trimtab targets` prints the table of the code."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from deployments.cli.main import app
from trimtab.runtime.matrix import rows
from trimtab.targets import TARGETS


def test_every_target_is_listed_with_what_is_installed_here():
    done = CliRunner().invoke(app, ["targets", "--json"])
    assert done.exit_code == 0, done.output
    found = {row["target"]: row for row in json.loads(done.output)["targets"]}
    assert list(found) == list(TARGETS)
    assert found["onnxruntime-cpu"]["installed"]["onnxruntime"]
    assert found["onnxruntime-cpu"]["carries"]["int8"] is True


def test_the_text_names_the_command_for_what_is_missing():
    done = CliRunner().invoke(app, ["targets"])
    assert done.exit_code == 0, done.output
    for target in TARGETS:
        assert target in done.output
    missing = [row for row in rows() if row.unavailable]
    spoken = "".join(done.output.split())
    assert [row.target for row in missing if "".join(row.install.split()) not in spoken] == []
