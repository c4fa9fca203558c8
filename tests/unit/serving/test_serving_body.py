"""Bodies: gzip becomes what it was, and never more than is allowed; values are counted before they are parsed."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import ProtocolError
from trimtab.serving.body import decompressed
from trimtab.serving.limits import check_elements


@given(st.binary(max_size=5000))
def test_what_was_compressed_comes_back(content: bytes) -> None:
    assert decompressed(gzip.compress(content), 5000) == content


def outcome(body: bytes) -> bytes | int:
    """The content, or the status of the refusal."""
    try:
        return decompressed(body, 1000)
    except ProtocolError as error:
        return error.status


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 255))
def test_damage_is_400_or_leaves_the_content_as_it_was(content: bytes, place: int, value: int) -> None:
    whole = bytearray(gzip.compress(content, mtime=0))
    whole[place % len(whole)] = value
    assert outcome(bytes(whole)) in (content, 400)  # nothing checks e.g. the time in its head


@pytest.mark.parametrize("cut", [0, 1, 9, 15, -9, -1])
def test_a_body_that_is_cut_off_is_400(cut: int) -> None:
    with pytest.raises(ProtocolError, match="ends before") as caught:
        decompressed(gzip.compress(b"x" * 1000)[:cut], 10_000)
    assert caught.value.status == 400


@pytest.mark.parametrize("other", [zlib.compress(b"x" * 100), b"{}", b"\x1f\x8b\x09" + b"\0" * 20])
def test_another_container_or_none_is_400(other: bytes) -> None:
    with pytest.raises(ProtocolError, match="is not gzip"):
        decompressed(other, 1000)


def test_a_second_member_is_refused_and_thousands_of_empty_ones_cost_nothing() -> None:
    with pytest.raises(ProtocolError, match="behind its gzip member"):
        decompressed(gzip.compress(b"one") + gzip.compress(b"two"), 1000)
    with pytest.raises(ProtocolError, match="behind its gzip member"):
        decompressed(gzip.compress(b"") * 10_000, 10**6)


def test_the_limit_is_exact_and_a_bomb_is_never_unpacked() -> None:
    assert len(decompressed(gzip.compress(b"x" * 1000), 1000)) == 1000
    bomb = gzip.compress(b"\0" * 50_000_000)
    tracemalloc.start()
    with pytest.raises(ProtocolError) as caught:
        decompressed(bomb, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.status == 413
    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (json.dumps({"instances": [[1, 2, 3]] * 40}).encode(), 120),
        (json.dumps({"instances": [[1.5]] * 50}, indent=4).encode(), 50),
        (b"a,b\n" + b"1,2\n" * 60, 122),
        (b"a\r\n" + b"1\r\n" * 60, 62),
    ],
)
def test_values_are_counted_by_what_divides_them(body: bytes, values: int) -> None:
    check_elements(body, values)
    with pytest.raises(ProtocolError, match=f"more than {values // 2}") as caught:
        check_elements(body, values // 2)
    assert caught.value.status == 413


def test_a_body_too_short_to_hold_too_many_is_not_looked_through() -> None:
    check_elements(b"," * 200, 100)
