"""Errors of a call: one class a kind of trouble, each with the HTTP status, the service's code and its message."""

from __future__ import annotations

from trimtab.errors import TrimtabError


class ScoringError(TrimtabError):
    """A call to a scoring service failed; the base of the others.

    Attributes:
        message: what the service said, or what went wrong on the way.
        status: HTTP status; None where no answer came.
        code: the service's error code, MLflow's words; "" where there is none.
    """

    exit_code = 7

    def __init__(
        self, message: str, *, status: int | None = None, code: str = "", where: str = "", fix: str = ""
    ) -> None:
        super().__init__(message, where=where, fix=fix)
        self.message, self.status, self.code = message, status, code

    def __reduce__(self) -> tuple:
        return _again, (type(self), self.what, self.status, self.code, self.where, self.fix)


def _again(kind: type[ScoringError], what: str, status: int | None, code: str, where: str, fix: str) -> ScoringError:
    return kind(what, status=status, code=code, where=where, fix=fix)


class Refused(ScoringError):
    """The request is wrong (400, 413, 415, …); the same one is refused again."""

    exit_code = 4


class NotAllowed(ScoringError):
    """The service wants another token, or none of this origin (401, 403)."""


class Unavailable(ScoringError):
    """No answer, or 429 or 503, also after the last attempt that the time allowed."""


class DeadlineExceeded(ScoringError):
    """The time is over: on our side, or the service gave the request up (408, 504)."""


class ModelFailed(ScoringError):
    """The model failed on the request (500); it is counted and logged there."""


class BadAnswer(ScoringError):
    """The answer is not what a scoring service says; something else may listen at that address."""
