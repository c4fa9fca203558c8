"""Random numbers: a block that draws from a seed and leaves every global generator as it found it."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator

import numpy as np
import torch

# Dropout and initialisation draw from torch's one global generator, which all threads share: two trainings at once
# in a process would take numbers from each other and neither could be repeated. So one at a time.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def seeded(seed: int, threads: int | None = None) -> Iterator[None]:
    """Seed torch, NumPy and `random`, use deterministic algorithms, and restore all of that afterwards.

    Blocks while another thread is inside. With the same seed and the same number of torch threads the block draws
    the same numbers, so a training gives bit-identical weights.

    Args:
        threads: torch threads inside the block; None leaves them as they are.
    """
    with _ONE_AT_A_TIME:
        before_python, before_numpy = random.getstate(), np.random.get_state()
        deterministic = torch.are_deterministic_algorithms_enabled()
        threads_before = torch.get_num_threads()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        with torch.random.fork_rng(devices=[]):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.set_num_threads(threads or threads_before)
            try:
                yield
            finally:
                torch.set_num_threads(threads_before)
                torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
                random.setstate(before_python)
                np.random.set_state(before_numpy)
