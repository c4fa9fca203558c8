"""Records: whole ones come back, and no damage passes for one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_journal_wal import row

from trimtab.journal.known import KnownRows
from trimtab.journal.mark import Mark, MarkWriter, read_mark
from trimtab.journal.records import decode_rows, encode_block, encode_rows, scan
from trimtab.journal.rows import blocks_of


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 2000), flip=st.integers(0, 2000), bit=st.integers(0, 7))
def test_a_cut_or_flipped_record_ends_the_scan_before_it(cut, flip, bit):
    first, second = encode_rows([row("a")]), encode_rows([row("b", index) for index in range(3)])
    whole = bytearray(first + second)
    cut = min(cut, len(whole))
    ends = [record.end for record in scan(bytes(whole[:cut]), 0)]
    assert ends == [end for end in (len(first), len(whole)) if end <= cut]
    flip %= len(whole)
    whole[flip] ^= 1 << bit
    assert [record.end for record in scan(bytes(whole), 0)] == ([len(first)] if flip >= len(first) else [])


def test_zeros_are_no_record():
    assert list(scan(b"\0" * 4096, 0)) == []


def test_rows_of_other_shapes_make_several_records_in_order():
    rows = [row("a"), row("b", inputs=None), row("c", inputs=None), row("d", output=[1.0, 0.0, 0.0])]
    records = list(scan(encode_rows(rows), 0))
    assert [record.count for record in records] == [1, 2, 1]
    assert [decode_rows(record, 0).request_id for record in records] == [["a"], ["b", "c"], ["d"]]


def test_a_block_makes_the_record_that_its_rows_make_whatever_its_layout_in_memory():
    rows = [row("a", index, float(index)) for index in range(3)]
    (block,) = blocks_of(rows)
    assert encode_block(block) == encode_rows(rows)
    reversed_twice = replace(
        block, inputs={name: values[:, :, ::-1].copy()[:, :, ::-1] for name, values in block.inputs.items()}
    )
    assert not reversed_twice.inputs["input"].flags.c_contiguous
    assert encode_block(reversed_twice) == encode_rows(rows)


def test_lists_and_other_widths_are_kept_as_the_three_dtypes_of_a_model():
    rows = [row("a", inputs={"f": [[0.5, 1.5]], "i": np.array([1, 2], np.int16), "b": [True, False]})]
    (record,) = scan(encode_rows(rows), 0)
    inputs = decode_rows(record, 5).inputs
    assert {name: values.dtype.name for name, values in inputs.items()} == {"f": "float32", "i": "int64", "b": "bool"}
    assert inputs["f"].shape == (1, 1, 2)


def test_the_durable_end_is_read_back_and_damage_to_it_is_not_believed(tmp_path):
    assert read_mark(tmp_path) is None
    writer = MarkWriter(tmp_path)
    assert read_mark(tmp_path) is None
    writer.write(Mark(2, 300, 40))
    assert read_mark(tmp_path) == Mark(2, 300, 40)
    writer.close()
    data = bytearray((tmp_path / "durable").read_bytes())
    data[0] ^= 1
    (tmp_path / "durable").write_bytes(data)
    assert read_mark(tmp_path) is None


def test_known_rows_are_found_among_recent_and_older_ones(monkeypatch):
    monkeypatch.setattr("trimtab.journal.known._LIMIT", 10)
    known = KnownRows()
    for index in range(25):
        known.add([f"r{index}"], [index])
    assert len(known) == 25
    assert all((f"r{index}", index) in known for index in range(25))
    assert ("r1", 2) not in known
