"""The errors a user can meet: each says what was wrong, where, and what to do; each kind has its own exit code."""

from __future__ import annotations


class TrimtabError(Exception):
    """Base of all errors that are raised on purpose.

    Args:
        what: what was wrong, with the offending value.
        where: the key, file, layer or row it concerns (may be empty).
        fix: what the reader can do about it (may be empty).
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  fix: {self.fix}" if self.fix else head

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), self.what, self.where, self.fix)


def _rebuild(kind: type[TrimtabError], what: str, where: str, fix: str) -> TrimtabError:
    return kind(what, where=where, fix=fix)


class RecipeError(TrimtabError):
    """The recipe is not valid; nothing was run."""

    exit_code = 2


class UserCodeError(TrimtabError):
    """The user's model or data code could not be imported or raised; `what` carries their traceback, not ours."""

    exit_code = 3


class DataError(TrimtabError):
    """What the user's loader returned cannot be used (empty, NaN, one class, wrong shape, overlapping splits)."""

    exit_code = 4


class ModelError(TrimtabError):
    """The model does not fit the task or the data (output shape, class count, not a Module)."""

    exit_code = 5


class BudgetNotMet(TrimtabError):
    """No candidate met the recipe's budget; nothing was registered."""

    exit_code = 6


class StateError(TrimtabError):
    """The state directory, a port or a server cannot be used."""

    exit_code = 7


class Conflict(TrimtabError):
    """Somebody else got there first: another release, promotion or ledger entry. Nothing was changed."""

    exit_code = 8


class RegistryError(TrimtabError):
    """The registry refused, or holds something that must not be used (unverified, incomplete, missing)."""

    exit_code = 9


class UnsupportedError(TrimtabError):
    """A method, layer or format cannot do what was asked, and says so before anything is written."""

    exit_code = 10


class CalibrationError(DataError):
    """Calibration data are too few, not finite, or of another range than training."""


class ConversionError(TrimtabError):
    """An exporter or converter failed, or what it wrote does not answer like the original."""

    exit_code = 11


class ProtocolError(TrimtabError):
    """A scoring request cannot be read; `code` is MLflow's error code, `status` the HTTP status (4xx)."""

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        fix: str = "",
        code: str = "INVALID_PARAMETER_VALUE",
        status: int = 400,
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.code, self.status = code, status
