"""What we know about models: recipes, candidates, compression, conversion, verification, registry, serving, monitoring.

Nothing in this package imports Prefect; orchestration lives in `tasks`, `flows` and `deployments`.
"""

__version__ = "0.1.0"
