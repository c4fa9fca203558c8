"""`python -m deployments.cli`: the same as `trimtab`."""

from deployments.cli.main import run

run()
