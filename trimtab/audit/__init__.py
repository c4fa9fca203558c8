"""The audit page of a release name: what was seen, decided, done and changed, in one order, from the ledger alone."""

from trimtab.audit.page import render
from trimtab.audit.timeline import Moment, timeline

__all__ = ["Moment", "render", "timeline"]
