"""A release's workers: the queue before its model, and the threads that call it.

A thread takes the request that has waited longest, and with it those of the same form behind it that the plan allows
to share its call. Nobody is waited for: a request that finds the queue empty is taken up at once.

Where nobody waits, a thread also writes the journal's rows of what it answered: another thread would have to be woken
for that, which takes longer. A thread that hangs there is replaced; when it comes back, it ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, MutableMapping, Sequence

from trimtab.serving.calls import Answer, Job, ask, ask_together
from trimtab.serving.failures import ModelFailure, Unwanted
from trimtab.serving.release import Loaded

RELIEF_S = 1.0  # that a thread may be with the journal before another takes its place
_logger = logging.getLogger(__name__)


class Workers:
    """Calls the model of one release, from its plan's number of threads.

    Args:
        began: shared with those of other releases: thread → when its call under way began, seconds of `time.monotonic`.
        called: told of each call how many requests shared it. ended: told when the last thread has ended.
    """

    def __init__(
        self,
        loaded: Loaded,
        began: MutableMapping[int, float],
        called: Callable[[int], None],
        ended: Callable[[Workers], None],
    ) -> None:
        self.loaded = loaded
        self._began, self._called, self._ended = began, called, ended
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._retired = False
        self._working = loaded.plan.workers
        self._away: dict[threading.Thread, float] = {}  # with the journal since
        self._threads = [self._start() for _ in range(loaded.plan.workers)]

    def put(self, job: Job) -> bool:
        """Queue a request; False when they have ended, and the request belongs to new ones."""
        with self._changed:
            if not self._working:
                return False
            self._waiting.append(job)
            self._changed.notify()
        return True

    @property
    def dead(self) -> bool:
        """Whether a thread ended that nobody had asked to; nothing starts it again."""
        return not self._retired and not all(thread.is_alive() for thread in self._threads)

    def retire(self) -> None:
        """End when nothing is left to do."""
        with self._changed:
            self._retired = True
            self._changed.notify_all()

    def join(self, until: float) -> None:
        """Wait for the end, at most until a moment of `time.monotonic`."""
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))

    def relieve(self) -> None:
        """Replace threads that hang outside the model."""
        now = time.monotonic()
        for thread, since in self._away.copy().items():
            if now - since > RELIEF_S and self._away.pop(thread, None) is not None:
                _logger.error("a thread hangs in the journal: another one calls the model from now on")
                self._threads[self._threads.index(thread)] = self._start()

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, name=f"model-{self.loaded.version}", daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        me = threading.get_ident()
        while jobs := self._next():
            self._began[me] = time.monotonic()
            try:
                self._run(jobs)
            finally:
                del self._began[me]
            replaced = self._after(jobs)
            jobs.clear()  # their arrays must not stay until the next request comes
            if replaced:
                return
        if not self._working:
            self._ended(self)

    def _after(self, jobs: Sequence[Job]) -> bool:
        """Do what is to be done when a call was answered; whether this thread was replaced meanwhile."""
        me = threading.current_thread()
        self._away[me] = time.monotonic()
        for job in jobs:
            if job.after is not None:
                job.after(not self._waiting)
        return self._away.pop(me, None) is None

    def _next(self) -> list[Job]:
        """The jobs of the next call; none when there will be no more."""
        with self._changed:
            while True:
                while not self._waiting and not self._retired:
                    self._changed.wait()
                self._drop_unwanted()
                if self._waiting:
                    return self._chosen()
                if self._retired:
                    self._working -= 1  # before the lock is let go, so that nothing is put where nobody works
                    return []

    def _drop_unwanted(self) -> None:
        now = time.monotonic()
        for job in [job for job in self._waiting if job.patience.over(now)]:
            self._waiting.remove(job)
            job.settle(Unwanted(job.patience.gone))

    def _chosen(self) -> list[Job]:
        if len(self._waiting) == 1 or not self.loaded.plan.shares:
            return [self._waiting.popleft()]
        form = self._waiting[0].form
        alike = [job for job in self._waiting if job.form == form]
        chosen = alike[: self.loaded.plan.together(job.rows for job in alike)]
        for job in chosen:
            self._waiting.remove(job)
        return chosen

    def _run(self, jobs: Sequence[Job]) -> None:
        if len(jobs) > 1:
            try:
                answers = ask_together(self.loaded, jobs)
            except ModelFailure as failure:
                _logger.warning("a call for %d requests failed (%s): each gets its own", len(jobs), failure.kind)
            else:
                self._called(len(jobs))
                for job, answer in zip(jobs, answers, strict=True):
                    job.settle(answer)
                return
        for job in jobs:
            job.settle(self._asked(job))

    def _asked(self, job: Job) -> Answer | ModelFailure:
        try:
            return ask(self.loaded, job.inputs)
        except ModelFailure as failure:
            return failure
        finally:
            self._called(1)
