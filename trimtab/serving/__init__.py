"""Serving: the champion behind MLflow's scoring protocol and the Open Inference Protocol, with limits, a journal,
metrics and a swap without a gap.

`app.build` makes the ASGI application of a `service.Service`; `python -m trimtab.serving` serves one release folder.
Imports neither torch nor mlflow; the registry is handed in (`follow.Source`), because it is the floor above.
"""
