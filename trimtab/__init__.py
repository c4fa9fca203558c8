"""What we know about models: recipes, candidates, compression, conversion, verification, registry, serving, monitoring.

Nothing in this package imports Prefect; orchestration lives in `tasks`, `flows` and `deployments`.
"""

import os

# ONNX Runtime 1.32 writes a device id below the home folder when it is imported; only this, set before, prevents it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
