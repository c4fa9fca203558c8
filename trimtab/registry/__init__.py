"""The registry: releases as MLflow model versions, and which of them serves. MLflow is used only behind this door.

`connection.Registry` holds what every call needs; `package`, `register`, `promote`, `rollback`, `sweep` act on it;
`follow` is the light reader for a serving process (no mlflow import). Nothing is imported here: MLflow costs 1.6 s.
"""
