"""Requests that share a call of the model: each gets its own answer, and no other request's fault."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import numpy as np
import pytest
from engine_world import SHARING, Softmax, loaded, play, until
from hypothesis import given
from hypothesis import strategies as st

from trimtab.journal.reader import window
from trimtab.journal.wal import Journal
from trimtab.serving.plan import PAYS, Plan
from trimtab.serving.service import Service


@pytest.fixture
def service(tmp_path):
    return Service("tiny", tmp_path / "reports", Journal(tmp_path / "journal"))


class Gate:
    """Holds the first call of a model until it is opened, so that requests gather behind it."""

    def __init__(self):
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, inputs):
        self.entered.set()
        assert self.opened.wait(20)


def gathered(service, release, bodies, headers=None):
    """Answers to requests that all wait while a first one is in the model; the first one's answer comes first."""

    async def script(client):
        headings = headers or [{}] * len(bodies)
        service.swap(release)
        gate = release.predictor.before
        first = asyncio.create_task(client.post("/invocations", json={"instances": [[0, 0, 0]]}))
        await until(gate.entered.is_set)
        rest = [
            asyncio.create_task(client.post("/invocations", json=body, headers=heading))
            for body, heading in zip(bodies, headings, strict=True)
        ]
        await until(lambda: service.engine.unfinished == 1 + len(bodies))
        gate.opened.set()
        return await asyncio.gather(first, *rest)

    return play(service, script)


def expected(rows):
    exponent = np.exp(np.array(rows, float))
    return exponent / exponent.sum(axis=1, keepdims=True)


def test_waiting_requests_share_a_call_and_each_gets_its_own_rows(service, tmp_path):
    predictor = Softmax(Gate())
    bodies = [[[0.1 * index, 1, row] for row in range(1 + index % 3)] for index in range(10)]
    answers = gathered(service, loaded(predictor=predictor, plan=SHARING), [{"instances": body} for body in bodies])
    assert predictor.calls == [1, 19]
    for body, answer in zip(bodies, answers[1:], strict=True):
        np.testing.assert_allclose(answer.json()["predictions"]["probabilities"], expected(body), 1e-5)
    found = window(tmp_path / "journal", 0, 20)
    for body, answer in zip(bodies, answers[1:], strict=True):
        own = found.request_id == answer.headers["x-request-id"]
        np.testing.assert_allclose(found.inputs["input"][own], np.array(body, np.float32))
        np.testing.assert_allclose(found.output[own], expected(body), 1e-5)


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    max_rows=st.integers(1, 16),
    seed=st.integers(0, 2**16),
)
def test_whoever_shares_a_call_every_answer_is_to_its_own_request(sizes, max_rows, seed):
    service = Service("tiny", None, None)
    plan = Plan(shares=True, took=SHARING.took[: max_rows + 1], max_wait_s=100.0)
    predictor = Softmax(Gate())
    generator = np.random.default_rng(seed)
    bodies = [generator.normal(size=(size, 3)).round(3).tolist() for size in sizes]
    answers = gathered(service, loaded(predictor=predictor, plan=plan), [{"instances": body} for body in bodies])
    assert sum(predictor.calls) == 1 + sum(sizes)
    assert all(rows <= max(max_rows, *sizes) for rows in predictor.calls)
    for body, answer in zip(bodies, answers[1:], strict=True):
        np.testing.assert_allclose(answer.json()["predictions"]["probabilities"], expected(body), 1e-4)


def test_a_lone_request_has_a_call_of_its_own_at_once(service):
    predictor = Softmax()

    async def script(client):
        service.swap(loaded(predictor=predictor, plan=SHARING))
        return [(await client.post("/invocations", json={"instances": [[0, 1, 2]]})).status_code for _ in range(5)]

    assert play(service, script) == [200] * 5
    assert predictor.calls == [1] * 5


def test_without_a_plan_that_shares_each_request_has_its_own_call(service):
    predictor = Softmax(Gate())
    answers = gathered(service, loaded(predictor=predictor), [{"instances": [[0, 1, 2]]}] * 6)
    assert {answer.status_code for answer in answers} == {200}
    assert predictor.calls == [1] * 7


def test_rows_of_different_shapes_do_not_share_a_call(service):
    predictor = Softmax(Gate(), shape=("steps",))
    bodies = [{"instances": [[0.0, 1.0, 2.0, *[3.0] * (index % 2)]]} for index in range(6)]
    answers = gathered(service, loaded(predictor=predictor, plan=SHARING), bodies)
    assert {answer.status_code for answer in answers} == {200}
    assert predictor.calls == [1, 3, 3]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer.json()["predictions"]["probabilities"], expected([[0, 1, 2]]), 1e-5)


def test_the_request_that_has_waited_longest_goes_first_whatever_its_shape(service):
    order = []

    class Noting(Softmax):
        def predict(self, inputs):
            order.append(inputs["input"].shape[1])
            return super().predict(inputs)

    predictor = Noting(Gate(), shape=("steps",))
    bodies = [{"instances": [[0.0] * (4 if index == 0 else 3)]} for index in range(4)]
    gathered(service, loaded(predictor=predictor, plan=SHARING), bodies)
    assert order == [3, 4, 3]


def failing_on(value, after):
    def before(inputs):
        after(inputs)
        if (inputs["input"] == value).any():
            raise ValueError("detail")

    before.entered, before.opened = after.entered, after.opened
    return before


def test_a_request_the_model_fails_on_fails_alone(service, tmp_path):
    predictor = Softmax(failing_on(666, Gate()))
    bodies = [{"instances": [[0, 1, 666 if index == 2 else index]]} for index in range(5)]
    answers = gathered(service, loaded(predictor=predictor, plan=SHARING), bodies)
    assert [answer.status_code for answer in answers[1:]] == [200, 200, 500, 200, 200]
    assert predictor.calls == [1, 5, 1, 1, 1, 1, 1]
    found = window(tmp_path / "journal", 0, 6)
    failed = found.request_id == answers[3].headers["x-request-id"]
    assert found.errors == {"ValueError": 1}
    assert found.status[failed].tolist() == [500]
    assert found.inputs["input"][failed].tolist() == [[0, 1, 666]]


def test_an_answer_that_is_not_finite_is_one_requests_alone(service):
    class NotFinite(Softmax):
        def predict(self, inputs):
            outputs = super().predict(inputs)
            outputs["probabilities"][inputs["input"][:, 0] == 9] = np.nan
            return outputs

    predictor = NotFinite(Gate())
    bodies = [{"instances": [[9 if index == 1 else 0, 1, 2]]} for index in range(4)]
    answers = gathered(service, loaded(predictor=predictor, plan=SHARING), bodies)
    assert [answer.status_code for answer in answers[1:]] == [200, 500, 200, 200]


@pytest.mark.parametrize("answer", [{"probabilities": np.zeros((1, 3))}, {}, {"probabilities": None}])
def test_a_model_that_answers_nonsense_to_a_shared_call_is_asked_one_by_one(service, answer):
    class Odd(Softmax):
        def predict(self, inputs):
            outputs = super().predict(inputs)
            return outputs if len(inputs["input"]) == 1 else answer

    answers = gathered(service, loaded(predictor=Odd(Gate()), plan=SHARING), [{"instances": [[0, 1, 2]]}] * 4)
    assert {answer.status_code for answer in answers} == {200}


def test_an_answer_that_is_no_array_is_the_models_failure_and_the_next_request_is_answered(service):
    odd = Softmax()
    odd.predict = lambda inputs: {"probabilities": np.array([["a", "b"]])}

    async def script(client):
        service.swap(loaded(predictor=odd))
        bad = await client.post("/invocations", json={"instances": [[0, 1, 2]]})
        odd.predict = Softmax().predict
        return bad.status_code, (await client.post("/invocations", json={"instances": [[0, 1, 2]]})).status_code

    assert play(service, script) == (500, 200)


def test_the_number_of_requests_a_call_is_counted(service):
    gathered(service, loaded(predictor=Softmax(Gate()), plan=SHARING), [{"instances": [[0, 1, 2]]}] * 4)
    sample = service.metrics.registry.get_sample_value
    assert sample("trimtab_call_requests_count") == 2
    assert sample("trimtab_call_requests_sum") == 5
    assert sample("trimtab_shares_calls") == 1


def test_several_workers_call_a_reentrant_model_at_once(service):
    together = threading.Barrier(3, timeout=20)
    predictor = Softmax(lambda inputs: together.wait())

    async def script(client):
        service.swap(loaded(predictor=predictor, plan=Plan(workers=3)))
        asked = [client.post("/invocations", json={"instances": [[0, 1, 2]]}) for _ in range(6)]
        return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert play(service, script) == [200] * 6


def test_a_model_that_takes_one_thread_is_not_given_several(service):
    service.swap(loaded("1"))
    with pytest.raises(ValueError, match="takes one thread, not 2"):
        service.swap(loaded("2", predictor=Softmax(reentrant=False), plan=Plan(workers=2)))
    assert service.engine.current.version == "1"
    service.close()


def test_the_threads_and_the_model_of_a_replaced_release_are_gone_when_its_last_request_is_answered(service):
    gate = Gate()
    old = loaded("old", Softmax(gate))
    model = weakref.ref(old.predictor)
    holder = [old]
    del old

    async def script(client):
        service.swap(holder.pop())
        under_way = asyncio.create_task(client.post("/invocations", json={"instances": [[0, 1, 2]]}))
        await until(gate.entered.is_set)
        service.swap(loaded("new"))
        gate.opened.set()
        answer = await under_way
        await until(lambda: not any(thread.name == "model-old" for thread in threading.enumerate()))
        del under_way
        gc.collect()
        return answer.headers["x-trimtab-version"], model()

    assert play(service, script) == ("old", None)


def test_a_request_that_began_before_a_swap_is_answered_by_its_release_even_when_its_lane_has_ended(service):
    old = loaded("old")

    async def script(client):
        service.swap(old)
        service.swap(loaded("new"))
        await until(lambda: not any(thread.name == "model-old" for thread in threading.enumerate()))
        scored = await service.engine.score(old, b'{"instances": [[0, 1, 2]]}', None)
        await until(lambda: not any(thread.name == "model-old" for thread in threading.enumerate()))
        return scored.output

    np.testing.assert_allclose(play(service, script), expected([[0, 1, 2]]), 1e-5)
    assert service.engine.unfinished == 0


def test_closing_finishes_what_waits_and_does_not_wait_for_ever_for_a_model_that_hangs(service):
    gate = Gate()

    async def script(client):
        service.swap(loaded(predictor=Softmax(gate)))
        hanging = asyncio.create_task(client.post("/invocations", json={"instances": [[0, 1, 2]]}))
        await until(gate.entered.is_set)
        await asyncio.to_thread(service.engine.close, 0.05)
        gate.opened.set()
        return (await hanging).status_code

    assert play(service, script) == 200


@pytest.mark.parametrize("size", [None, 10, 10**9])
def test_any_form_of_request_is_answered_through_submit(service, size):
    release = loaded(plan=SHARING)
    rows = np.array([[0, 1, 2]], np.float32)

    async def script(client):
        service.swap(release)
        return await service.engine.submit(release, lambda: {"input": rows}, lambda outputs: b"own form", size=size)

    scored = play(service, script)
    assert scored.body == b"own form"
    assert scored.inputs["input"] is rows
    np.testing.assert_allclose(scored.output, expected([[0, 1, 2]]), 1e-5)


@pytest.mark.parametrize("size", [None, 10])
def test_what_reading_raises_reaches_the_caller_and_frees_its_place(service, size):
    release = loaded()

    def unreadable():
        raise KeyError("own")

    async def script(client):
        service.swap(release)
        with pytest.raises(KeyError, match="own"):
            await service.engine.submit(release, unreadable, lambda outputs: b"", size=size)
        return service.engine.unfinished

    assert play(service, script) == 0


def test_a_shared_call_has_as_few_rows_as_gain_nearly_all_within_the_wait():
    took = (0.0, 0.4, 0.7, 1.0, 1.3)
    assert Plan(shares=True, took=took, max_wait_s=0.8).together([1] * 5) == 3
    assert Plan(shares=True, took=took, max_wait_s=9).together([1] * 5) == 3
    assert Plan(shares=True, took=(0.0, 0.4, 0.7, 1.0, 1.1), max_wait_s=9).together([1] * 5) == 4
    assert Plan(shares=True, took=(0.0, 0.4, 0.41, 0.42, 0.43), max_wait_s=9).together([1] * 5) == 4
    assert Plan(shares=True, took=took, max_wait_s=0.1).together([1] * 5) == 1
    assert Plan(shares=True, took=took, max_wait_s=9).together([3, 2]) == 1
    assert Plan(shares=True, took=took, max_wait_s=9).together([9, 1]) == 1
    assert Plan(took=took, max_wait_s=9).together([1] * 5) == 1
    slower = (0.0, 1.0, 2.5, 3.5)
    assert Plan(shares=True, took=slower, max_wait_s=9).together([1, 1, 1]) == 1
    assert Plan(shares=True, took=slower, max_wait_s=9, always=True).together([1, 1, 1]) == 3
    no_faster = (0.0, 1.0, 2.0, 3.0, 4.0)
    assert Plan(shares=True, took=no_faster, max_wait_s=9).together([1] * 4) == 1
    assert Plan(shares=True, took=no_faster, max_wait_s=9, call_s=0.1).together([1] * 4) == 2
    assert Plan(shares=True, took=no_faster, max_wait_s=9, call_s=1.0).together([1] * 4) == 4
    dear_at_two = (0.0, 1.0, 2.0, 2.0)
    assert Plan(shares=True, took=dear_at_two, max_wait_s=9).together([1, 1, 1]) == 3


@given(
    took=st.lists(st.floats(0.001, 10), min_size=1, max_size=20),
    rows=st.lists(st.integers(1, 8), min_size=1, max_size=20),
    max_wait_s=st.floats(0, 10),
    always=st.booleans(),
    call_s=st.floats(0, 1),
)
def test_a_shared_call_keeps_to_its_limits(took, rows, max_wait_s, always, call_s):
    plan = Plan(shares=True, took=(0.0, *took), max_wait_s=max_wait_s, always=always, call_s=call_s)
    count = plan.together(rows)
    assert 1 <= count <= len(rows)
    if count > 1:
        total = sum(rows[:count])
        assert total <= plan.max_rows
        assert plan.took[total] - plan.took[1] <= max_wait_s
        apart = sum(plan.took[each] + call_s for each in rows[:count])
        assert always or plan.took[total] + call_s <= PAYS * apart * (1 + 1e-9)


def test_a_model_that_hangs_is_seen_while_others_wait_for_it(service):
    gate = Gate()

    async def script(client):
        service.swap(loaded(predictor=Softmax(gate)))
        under_way = asyncio.create_task(client.post("/invocations", json={"instances": [[0, 1, 2]]}))
        await until(gate.entered.is_set)
        before = service.engine.longest_s
        await until(lambda: service.engine.longest_s > before)
        gate.opened.set()
        await under_way
        return service.engine.longest_s

    begin = time.monotonic()
    assert play(service, script) <= time.monotonic() - begin
