"""Content keys: a stage's result is reused only for the same recipe, data, code, versions and arguments."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from prefect.context import TaskRunContext

from trimtab import __version__
from trimtab.candidate import digest_of
from trimtab.workbench import Workbench

log = logging.getLogger("trimtab")
JSON_RESULT: dict[str, Any] = {"persist_result": True, "result_serializer": "json"}


def content_key(stage: str) -> Callable[[TaskRunContext, dict[str, Any]], str | None]:
    """A Prefect `cache_key_fn`: digest of the bench's key and every other argument.

    A part that cannot be written as JSON means no caching at all, and a log line, never a key without it.
    """

    def key(context: TaskRunContext, parameters: dict[str, Any]) -> str | None:
        try:
            rest = {name: value for name, value in parameters.items() if not isinstance(value, Workbench)}
            benches = [value.key for value in parameters.values() if isinstance(value, Workbench)]
            return f"{stage}-{digest_of([stage, __version__, benches, rest])}"
        except (TypeError, ValueError) as error:
            log.warning("%s: not cached, an argument has no content key: %s", stage, error)
            return None

    return key
