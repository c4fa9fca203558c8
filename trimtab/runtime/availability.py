"""Whether a target can be used on this machine, asked before anything is written or loaded."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from trimtab.errors import UnsupportedError
from trimtab.settings import Settings
from trimtab.targets import target
from trimtab.worker import ENVIRONMENTS, made

# Distributions that bring the same package; only one of them can be installed.
_SAME = {"onnxruntime": ("onnxruntime-gpu",)}


def installed(distribution: str) -> str | None:
    """Version of a distribution, or of one that brings the same package; None if there is none."""
    for name in (distribution, *_SAME.get(distribution, ())):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def why_unavailable(name: str, converting: bool = True) -> str:
    """Why a target cannot be used here, "" if it can.

    Args:
        name: of the target.
        converting: whether to ask for what only the conversion needs, too.

    Raises:
        UnsupportedError: the target is unknown.
    """
    entry = target(name)
    ours = () if entry.load_worker else entry.loads_with
    needed = (*ours, *(entry.converts_with if converting else ()))
    if missing := [distribution for distribution in needed if installed(distribution) is None]:
        return f"not installed: {', '.join(missing)}"
    workers = {entry.load_worker, entry.convert_worker if converting else ""} - {""}
    home = Settings.load().home
    if absent := [worker for worker in sorted(workers) if made(ENVIRONMENTS[worker], home) is None]:
        needs = ENVIRONMENTS[absent[0]].megabytes
        return f"the worker environment {absent[0]!r} is not made yet (needs {needs} MB of disk)"
    if entry.load_worker:  # its runtime cannot be imported here
        return ""
    module = import_module(f"trimtab.runtime.{entry.runtime}")
    return module.unavailable() if hasattr(module, "unavailable") else ""


def refuse_unavailable(name: str, converting: bool = True) -> None:
    """Refuse a target that cannot be used on this machine.

    Raises:
        UnsupportedError: it cannot; the message has the command that installs what is missing.
    """
    if why := why_unavailable(name, converting):
        raise UnsupportedError(why, where=name, fix=f"{target(name).install}, or take {name} out of `targets`")
