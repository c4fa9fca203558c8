"""The token our own programs (demo, flows, commands) send to a service that wants one; made when it is first wanted."""

from __future__ import annotations

from deployments.stack.guard import Guard
from trimtab.asking import kept_token, token_file
from trimtab.serving.tokens import SCOPES, TokenFile, digest
from trimtab.settings import Settings
from trimtab.store import write_atomic

NAME = "trimtab's own programs"


def keep_own_token(settings: Settings, guard: Guard) -> None:
    """See that there is a token for our own programs, where the service wants one.

    Who can read its file can read the journal beside it too, so it may do everything.

    Raises:
        StateError: the tokens or the file cannot be used.
    """
    if not guard.auth:
        return
    tokens, kept = TokenFile.of(settings), kept_token(settings)
    if kept is not None and any(token.sha256 == digest(kept) for token in tokens.read()):
        return
    secret, _ = tokens.add(NAME, SCOPES)
    write_atomic(token_file(settings), secret.encode())
