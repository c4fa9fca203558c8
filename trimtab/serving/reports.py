"""HTML reports as static files, and nothing but files below their folder."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

_DECODINGS = 5


def contained_file(folder: Path, path: str) -> Path | None:
    """The file a URL path names, or None when it is no regular file below the folder.

    The path is decoded until it does not change any more (MLflow was fixed four times for decoding once, CVE-2023-1177
    and its kin) and then resolved through links; what counts is where the file really lies.
    """
    for _ in range(_DECODINGS):
        decoded = unquote(path)
        if decoded == path:
            break
        path = decoded
    else:
        return None
    if not path or "\0" in path or "\\" in path or path.startswith("/"):
        return None
    try:
        root = folder.resolve(strict=True)
        found = (root / path).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return found if found.is_relative_to(root) and found.is_file() else None
