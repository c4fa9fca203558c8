"""From other threads to the event loop: everything arrives, in order, with few wake-ups."""

from __future__ import annotations

import asyncio
import threading

from trimtab.serving.handover import Handover


def test_everything_given_by_many_threads_arrives_once_and_in_each_threads_order():
    arrived: list[tuple[int, int]] = []

    async def receive():
        handover = Handover()
        handover.here()
        threads = [
            threading.Thread(
                target=lambda giver=giver: [handover.give(arrived.append, (giver, number)) for number in range(2000)]
            )
            for giver in range(4)
        ]
        for thread in threads:
            thread.start()
        while len(arrived) < 8000:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(receive(), 30))
    for giver in range(4):
        assert [number for one, number in arrived if one == giver] == list(range(2000))


def test_what_arrives_together_wakes_the_loop_once():
    async def receive():
        handover, arrived = Handover(), []
        loop = handover.here()
        real, wakes = loop.call_soon_threadsafe, []
        loop.call_soon_threadsafe = lambda *arguments: (wakes.append(1), real(*arguments))
        thread = threading.Thread(target=lambda: [handover.give(arrived.append, number) for number in range(50)])
        thread.start()
        thread.join()  # the loop does not run meanwhile
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return arrived, len(wakes)

    assert asyncio.run(receive()) == (list(range(50)), 1)


def test_what_comes_after_a_delivery_wakes_the_loop_again():
    async def receive():
        handover, arrived = Handover(), []
        handover.here()
        for number in range(3):
            await asyncio.to_thread(handover.give, arrived.append, number)
            while len(arrived) == number:
                await asyncio.sleep(0.001)
        return arrived

    assert asyncio.run(asyncio.wait_for(receive(), 20)) == [0, 1, 2]


def test_a_loop_that_is_closed_gets_nothing_and_the_next_one_does():
    handover, arrived = Handover(), []

    async def bind():
        handover.here()

    asyncio.run(bind())
    handover.give(arrived.append, "lost")

    async def receive():
        handover.here()
        handover.give(arrived.append, "kept")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(receive())
    assert arrived == ["kept"]
