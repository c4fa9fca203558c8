"""HTML reports as static files and a list of them, and nothing but files below their folder."""

from __future__ import annotations

import html
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

_DECODINGS = 5
NEWEST = 500  # pages listed; a watched service makes one a window, for ever
PASSIVE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 16px; max-width: 60rem; }}
h1 {{ font-size: 1.35rem; overflow-wrap: anywhere; }} li {{ margin: .4rem 0; overflow-wrap: anywhere; }}
.small {{ font-size: .86rem; opacity: .8; white-space: nowrap; }}
h2 {{ font-size: 1.1rem; }} pre {{ padding: 8px; border: 1px solid; white-space: pre-wrap; overflow-wrap: anywhere; }}
th, td {{ text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


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


def page(title: str, paragraphs: Iterable[str], links: Iterable[tuple[str, str, str]]) -> str:
    """A small HTML page: paragraphs, then a list of links.

    Args:
        title, paragraphs: plain text; escaped here.
        links: (address, already quoted for a URL; text; note behind it).
    """
    items = "\n".join(
        f'<li><a href="{html.escape(address)}">{html.escape(text)}</a> '
        f'<span class="small">{html.escape(note)}</span></li>'
        for address, text, note in links
    )
    said = "\n".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs)
    return styled(title, f"{said}\n<ul>\n{items}\n</ul>" if items else said)


def styled(title: str, body: str) -> str:
    """A whole page; `title` is plain text, `body` HTML."""
    return _PAGE.format(title=html.escape(title), body=body)


def index(folder: Path, name: str, prefix: str) -> str:
    """The list of reports as HTML, newest first.

    Args:
        folder: of the reports; need not exist yet.
        name: of the service.
        prefix: what stands before the relative links: "" where the page's own address ends in a slash.
    """
    found = _reports(folder)
    shown = [
        (prefix + quote(path), path, f"{datetime.fromtimestamp(changed, UTC):%Y-%m-%d %H:%M} UTC")
        for changed, path in found[:NEWEST]
    ]
    said = [] if found else ["No report yet."]
    if len(found) > NEWEST:
        said.append(f"The newest {NEWEST} of {len(found)} reports.")
    return page(f"Reports of {name}", said, shown)


def _reports(folder: Path) -> list[tuple[float, str]]:
    """Time of change and path below `folder` of each HTML file that `contained_file` serves under that very path."""
    found = []
    for file in folder.rglob("*.html"):
        path = file.relative_to(folder).as_posix()
        try:
            # A link leads elsewhere, and a name with "%" may be decoded to another file's: neither is listed.
            if not file.name.startswith(".") and contained_file(folder, path) == folder.resolve() / path:
                found.append((file.stat().st_mtime, path))
        except OSError:
            continue  # deleted since it was listed
    return sorted(found, key=lambda entry: (-entry[0], entry[1]))
