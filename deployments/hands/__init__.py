"""Hands in MLflow: a small process that sees what somebody set there, and has it settled within seconds.

`python -m deployments.hands` watches; `settle` is what it starts when there is something to do.
"""
