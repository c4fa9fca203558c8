"""The local servers: Prefect, MLflow, a worker, the scoring service and Evidently's UI, supervised as one stack.

`up` starts what is missing and waits until it is ready, `down` stops everything, `withdraw` one scoring service, and
`status` says what runs.
"""

from deployments.stack.down import ServiceStatus, down, status
from deployments.stack.health import Progress
from deployments.stack.up import Stack, up
from deployments.stack.withdrawal import withdraw

__all__ = ["Progress", "ServiceStatus", "Stack", "down", "status", "up", "withdraw"]
