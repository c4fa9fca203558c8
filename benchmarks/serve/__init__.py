"""Serving: our service, stock MLflow, LitServe and a small Starlette app on one model (`make bench-serve`)."""
