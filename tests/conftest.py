"""For every test: a property is checked by its examples, not by how long a busy machine takes for one.

The same examples every time, so that a change is judged by what it changed; TRIMTAB_EXAMPLES=random draws others.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("trimtab", deadline=None, derandomize=os.environ.get("TRIMTAB_EXAMPLES") != "random")
settings.load_profile("trimtab")
