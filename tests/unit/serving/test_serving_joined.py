"""The head of an answer leaves with its body, and never waits for one that does not come."""

import asyncio

import pytest

from trimtab.serving.joined import SMALL, Joined

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Wire(asyncio.Transport):
    """Each write of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data) -> None:
        self.writes.append(bytes(data))

    def writelines(self, data) -> None:
        self.writes.append(b"".join(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def written(*parts: bytes, turns: int = 0) -> list[bytes]:
    async def script() -> list[bytes]:
        wire = Wire()
        joined = Joined(wire, asyncio.get_running_loop())
        for part in parts:
            joined.write(part)
        before = list(wire.writes)
        for _ in range(turns):
            await asyncio.sleep(0)
        return wire.writes if turns else before

    return asyncio.run(script())


@pytest.mark.parametrize("body", [b"{}", b"", b"x" * (SMALL + 1)])
def test_head_and_body_are_one_write(body: bytes) -> None:
    assert written(HEAD, body) == [HEAD + body]


def test_a_head_whose_body_is_late_leaves_with_the_next_turn_of_the_loop() -> None:
    assert written(HEAD) == []
    assert written(HEAD, turns=2) == [HEAD]


def test_what_asks_to_go_on_leaves_at_once() -> None:
    assert written(b"HTTP/1.1 100 Continue\r\n\r\n") == [b"HTTP/1.1 100 Continue\r\n\r\n"]


def test_parts_of_a_body_are_not_held_back() -> None:
    assert written(HEAD, b"a", b"b", turns=2) == [HEAD + b"a", b"b"]


def test_closing_writes_the_head_first_and_the_rest_is_the_transports() -> None:
    async def script() -> None:
        wire = Wire()
        joined = Joined(wire, asyncio.get_running_loop())
        joined.write(HEAD)
        assert not joined.is_closing()
        joined.close()
        assert (wire.writes, wire.closed, joined.is_closing()) == ([HEAD], True, True)
        await asyncio.sleep(0)
        assert wire.writes == [HEAD]

    asyncio.run(script())
