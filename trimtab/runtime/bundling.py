"""The loader inside a release: the files of this folder as one self-contained file, so a release runs without us.

    door.py + its parts, if any + <runtime>.py + shell.py  →  loader.py

What stands between `# bundle: drop` and `# bundle: keep` in a file (imports of our own package) is left out; the
`from __future__` line of each goes to the top, where alone it may stand. Nothing else is touched: the Predictor in a
release is the text that was verified.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from trimtab.errors import UnsupportedError
from trimtab.runtime.availability import installed
from trimtab.targets import TARGETS
from trimtab.worker import ENVIRONMENTS

_FUTURE = "from __future__ import annotations\n"
_DROPPED = re.compile(r"^ *# bundle: drop\n.*?^ *# bundle: keep\n", re.DOTALL | re.MULTILINE)


def requirements(target: str) -> list[str]:
    """Pinned requirements of a target's loader, e.g. ["onnxruntime==1.32.0", "numpy==2.4.6", "pandas==2.3.3"].

    A local part of a version ("2.13.0+cpu") is left out: package indexes do not know it.

    Raises:
        ValueError: the target is unknown. UnsupportedError: what its loader needs is not installed here.
    """
    _known(target)
    names = (*TARGETS[target].loads_with, "numpy", "pandas")
    worker = TARGETS[target].load_worker
    verified_with = ENVIRONMENTS[worker].versions if worker else {}
    versions = {name: verified_with.get(name) or installed(name) for name in names}
    if missing := [name for name, found in versions.items() if found is None]:
        raise UnsupportedError(f"not installed: {', '.join(missing)}", where=target, fix=TARGETS[target].install)
    return [f"{name}=={str(found).partition('+')[0]}" for name, found in versions.items()]


def bundle(target: str) -> str:
    """Source of the self-contained loader file of a target, for MLflow's "models from code"."""
    _known(target)
    title = f"Loader of a release for {target}: needs its runtime, numpy, pandas and mlflow."
    return joined(("door", *TARGETS[target].parts, TARGETS[target].runtime, "shell"), title)


def joined(stems: Sequence[str], title: str) -> str:
    """Files of this folder as one self-contained text; `title` becomes its docstring."""
    folder = Path(__file__).parent
    parts = [(folder / f"{stem}.py").read_text(encoding="utf-8") for stem in stems]
    bodies = [_DROPPED.sub("", part).replace(_FUTURE, "", 1) for part in parts]
    return f'"""{title}"""\n\n{_FUTURE}\n' + "\n\n".join(body.strip("\n") for body in bodies) + "\n"


def _known(target: str) -> None:
    if target not in TARGETS:
        raise ValueError(f"unknown target {target!r}; one of {sorted(TARGETS)}")
