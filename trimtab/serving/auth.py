"""Who may ask: a bearer token with the scope of the request, before anything else is looked at.

Only the probes of a supervisor stay open, by their exact path as it was sent: nothing is decoded, nothing is compared
by its end. What a path needs is decided on the decoded path, the one that is routed by. So both ways of writing a path
differently end at the door.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from trimtab.serving.answers import failure
from trimtab.serving.tokens import Scope as TokenScope
from trimtab.serving.tokens import Tokens

OPEN = frozenset((b"/ping", b"/health", b"/ready", b"/v2/health/live", b"/v2/health/ready"))
READS = frozenset(("GET", "HEAD", "OPTIONS"))
REALM = 'Bearer realm="trimtab"'
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/=-]{1,512})")  # RFC 6750, 2.1


class Guard:
    """ASGI middleware that lets a request through with a token whose scopes cover it.

    Args:
        app: what is guarded.
        tokens: those that are taken.
        refused: called with the reason of each refusal ("no_token", "bad_token", "scope"), to be counted.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens, refused: Callable[[str], None] = lambda reason: None) -> None:
        self._app, self._tokens, self._refused = app, tokens, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 403, or hand the request on."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope.get("raw_path") in OPEN):
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # policy violation (RFC 6455, 7.4.1)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, reason, challenge, message = refusal
        self._refused(reason)
        code = "UNAUTHENTICATED" if status == 401 else "PERMISSION_DENIED"
        await failure(status, code, message, {"WWW-Authenticate": challenge})(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str, str, str] | None:
        """Status, reason, challenge and message of a refusal; None where the request may pass."""
        headers = [value for name, value in scope["headers"] if name == b"authorization"]
        if not headers:
            return 401, "no_token", REALM, "a token is needed: Authorization: Bearer TOKEN (`trimtab tokens add`)"
        presented = _BEARER.fullmatch(headers[0].decode("latin-1")) if len(headers) == 1 else None
        token = self._tokens.find(presented[1]) if presented else None
        if token is None:
            return 401, "bad_token", f'{REALM}, error="invalid_token"', "the token is not one that is taken here"
        wanted = needed(scope["method"], scope["path"])
        if wanted not in token.scopes:
            challenge = f'{REALM}, error="insufficient_scope", scope="{wanted}"'
            return 403, "scope", challenge, f"the token lacks the scope {wanted!r}"
        return None


def needed(method: str, path: str) -> TokenScope:
    """The scope of a request.

    Args:
        path: decoded, as the router sees it.
    """
    if method in READS:
        return "read"
    return "labels" if path == "/labels" else "score"
