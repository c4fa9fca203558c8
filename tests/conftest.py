"""For every test: a property is checked by its examples, not by how long a busy machine takes for one."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("trimtab", deadline=None)
settings.load_profile("trimtab")
