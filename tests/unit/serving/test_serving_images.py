"""Images on /invocations: what a file becomes, by the release's own rule; what is refused before it is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from serving_world import IMAGES, PICTURE, TWO, VECTOR, asked, loaded, spec

from trimtab import pixels
from trimtab.errors import ProtocolError
from trimtab.journal.reader import window
from trimtab.serving.images import MOST_PIXELS, Rule, decode, read_images, rule_of
from trimtab.serving.media import JPEG, MULTIPART, PNG
from trimtab.serving.parts import read_parts

MOST = 2**22
COLOURS = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)  # height 4, width 5
RULE = Rule("input", "RGB", 4, 5, "float32", 1.0, False)


def file(values: np.ndarray | Image.Image = COLOURS, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(stream, kind, **options)
    return stream.getvalue()


def refused(call: Callable[[], Any]) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        call()
    return caught.value


def as_input(colours: np.ndarray) -> np.ndarray:
    return colours.transpose(2, 0, 1)[None].astype(np.float32)


def test_a_png_becomes_its_pixels_channels_first(tmp_path: Path):
    with asked(tmp_path, loaded(PICTURE, images=IMAGES)) as (client, _):
        answer = client.post("/invocations", content=file(), headers={"Content-Type": PNG})
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"]["probabilities"] == [[float(COLOURS.sum()), 1, 2]]
        np.testing.assert_array_equal(window(tmp_path / "journal", 0, 1).inputs["input"], as_input(COLOURS))


def test_several_images_of_a_form_are_rows_in_their_order(tmp_path: Path):
    other = 255 - COLOURS
    with asked(tmp_path, loaded(PICTURE, images=IMAGES)) as (client, _):
        parts = [
            ("image", ("b.png", file(other), PNG)), ("image", ("a.png", file(), PNG)),
            ("x", ("c.bmp", file(other), "application/octet-stream")),
        ]  # fmt: skip
        answer = client.post("/invocations", files=parts)
        assert answer.status_code == 200, answer.text
        sums = [row[0] for row in answer.json()["predictions"]["probabilities"]]
        assert sums == [float(other.sum()), float(COLOURS.sum()), float(other.sum())]


def test_a_jpeg_is_decoded_as_pillow_does():
    body = file(kind="JPEG", quality=90)
    shown = np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))
    np.testing.assert_array_equal(decode(RULE, [body], MOST), as_input(shown))


def test_a_scale_of_1_255_gives_exactly_what_a_division_by_255_gives():
    assert pixels.levels(1 / 255, "float32").dtype == np.float32
    np.testing.assert_array_equal(
        pixels.levels(0.00392156862745098, "float32"), np.arange(256, dtype=np.float32) / np.float32(255)
    )
    assert pixels.levels(0.0625, "float32")[160] == 10


def test_grey_and_palette_and_alpha_are_taken_in_the_mode_of_the_release():
    grey = COLOURS[:, :, 0]
    rule = Rule("input", "L", 4, 5, "int64", 1.0, False)
    found = decode(rule, [file(grey), file(Image.fromarray(grey).convert("LA"))], MOST)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, np.stack([grey[None], grey[None]]))
    black_and_white = Image.fromarray(grey > 100)
    assert set(np.unique(decode(RULE, [file(black_and_white)], MOST))) <= {0.0, 255.0}
    with_alpha = np.concatenate([COLOURS, np.full((4, 5, 1), 7, np.uint8)], axis=2)
    np.testing.assert_array_equal(decode(RULE, [file(with_alpha)], MOST), as_input(COLOURS))
    palette = Image.fromarray(COLOURS).quantize(4)
    np.testing.assert_array_equal(decode(RULE, [file(palette)], MOST), as_input(np.asarray(palette.convert("RGB"))))


def test_another_size_is_refused_unless_the_release_resizes():
    small = np.zeros((2, 2, 3), np.uint8)
    error = refused(lambda: decode(RULE, [file(), file(small)], MOST))
    assert (error.status, error.where) == (400, "image 1")
    assert "is 2 x 2 pixels, the model takes 5 x 4" in error.what
    resized = decode(Rule("input", "RGB", 4, 5, "float32", 1.0, True), [file(), file(small)], MOST)
    assert resized.shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(resized[:1], as_input(COLOURS))


def test_a_model_of_any_size_takes_images_of_one_size_a_request():
    of = spec(input=("float32", [3, "height", "width"]))
    rule = rule_of(loaded(of, images={**IMAGES, "resize": True}))
    assert (rule.height, rule.width, rule.resize) == (None, None, False)
    assert decode(rule, [file(), file()], MOST).shape == (2, 3, 4, 5)
    error = refused(lambda: decode(rule, [file(), file(np.zeros((2, 2, 3), np.uint8))], MOST))
    assert "is 2 x 2, the first is 5 x 4" in error.what


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few KB that claims, and holds, a large grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixel_data = zlib.compress(b"\0" * (height * (width + 1)), 9) if width * height < 2**26 else zlib.compress(b"\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixel_data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(4097, 4096), (30_000, 30_000), (2**31 - 1, 1)])
def test_a_picture_too_large_to_decode_is_refused_by_its_header(size, monkeypatch):
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
    body = bomb(*size)
    assert len(body) < 50_000
    resizing = Rule("input", "RGB", 4, 5, "float32", 1.0, True)
    assert refused(lambda: decode(resizing, [body], MOST)).status == 400
    assert refused(lambda: decode(RULE, [body], MOST)).status == 400


def test_many_large_pictures_are_refused_together(monkeypatch):
    monkeypatch.setattr("trimtab.serving.images.MOST_TOGETHER", 1000)
    resizing = Rule("input", "RGB", 4, 5, "float32", 1.0, True)
    half = file(np.zeros((24, 25, 3), np.uint8))
    assert decode(resizing, [half], MOST).shape == (1, 3, 4, 5)
    assert refused(lambda: decode(resizing, [half, half], MOST)).where == "image 1"
    assert MOST_PIXELS == 4096 * 4096


def test_more_images_than_fit_are_413():
    assert refused(lambda: decode(RULE, [file()] * 3, 3 * 240 - 1)).status == 413
    assert decode(RULE, [file()] * 3, 3 * 240).shape == (3, 3, 4, 5)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not a whole"), (b"GIF89a", "not a whole"), (file()[:60], "not a whole"),
        (file(kind="JPEG")[:200], "not a whole"),
        (file(kind="GIF"), "not a whole"), (file(kind="BMP"), "not a whole"),
        (file(Image.fromarray(COLOURS[:, :, 0].astype(np.uint16))), "stored as"),
        (file(Image.fromarray(COLOURS).convert("CMYK"), "JPEG"), "stored as"),
    ],
    ids=["empty", "no image", "torn png", "torn jpeg", "gif", "bmp", "16 bits", "cmyk"],
)  # fmt: skip
def test_what_is_no_8_bit_jpeg_or_png_is_refused(body, told):
    error = refused(lambda: decode(RULE, [body], MOST))
    assert (error.status, error.where) == (400, "image 0")
    assert told in error.what


def test_an_animation_is_refused():
    frames = [Image.fromarray(COLOURS), Image.fromarray(255 - COLOURS)]
    body = file(frames[0], save_all=True, append_images=frames[1:])
    assert "animation" in refused(lambda: decode(RULE, [body], MOST)).what


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG"]))
def test_a_file_with_changed_bytes_is_decoded_or_refused_and_nothing_else_happens(data, kind):
    body = bytearray(file(kind=kind))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        shape = decode(RULE, [bytes(body)], MOST).shape
    except ProtocolError:
        shape = (1, 3, 4, 5)
    assert shape == (1, 3, 4, 5)


@pytest.mark.parametrize(
    ("of", "images", "told"),
    [
        (PICTURE, None, "does not say"),
        (TWO, IMAGES, "the model takes 3"),
        (VECTOR, IMAGES, "the model takes (n, 3)"),
        (PICTURE, {**IMAGES, "mode": "L"}, "mode L"),
        (spec(input=("bool", [3, 4, 5])), IMAGES, "bools"),
        (spec(input=("int64", [3, 4, 5])), {**IMAGES, "scale": 0.5}, "whole numbers"),
    ],
)
def test_a_release_that_takes_no_images_answers_415_with_the_reason(of, images, told):
    error = refused(lambda: read_images(loaded(of, images=images), file(), {"content-type": PNG}, MOST))
    assert error.status == 415
    assert told in error.what


def form(*parts: bytes, boundary: bytes = b"xx", end: bytes = b"--xx--\r\n") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + end


DISPOSITION = b'Content-Disposition: form-data; name="i"; filename="a.png"\r\n'


def test_parts_are_read_in_order_with_or_without_a_type():
    body = form(DISPOSITION + b"Content-Type: image/png\r\n\r\n\x89one\r\nmore", DISPOSITION + b"\r\ntwo")
    assert read_parts(body, "multipart/form-data; boundary=xx", 2) == [b"\x89one\r\nmore", b"two"]
    assert read_parts(body, 'Multipart/Form-Data; charset=utf-8; boundary="xx"', 2) == [b"\x89one\r\nmore", b"two"]


@pytest.mark.parametrize(
    ("body", "header", "status"),
    [
        (b"", MULTIPART, 400), (b"", f"{MULTIPART}; boundary=", 400), (b"", f"{MULTIPART}; boundary=xx", 400),
        (b"no parts", f"{MULTIPART}; boundary=xx", 400), (form(b"no header"), f"{MULTIPART}; boundary=xx", 400),
        (form(DISPOSITION + b"\r\ncut", end=b""), f"{MULTIPART}; boundary=xx", 400),
        (form(DISPOSITION + b"Content-Type: text/plain\r\n\r\nx"), f"{MULTIPART}; boundary=xx", 415),
        (form(*[DISPOSITION + b"\r\nx"] * 3), f"{MULTIPART}; boundary=xx", 413),
        (form(b"X: " + b"y" * 10_000 + b"\r\n\r\nx"), f"{MULTIPART}; boundary=xx", 413),
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_read_is_refused(body, header, status):
    assert refused(lambda: read_parts(body, header, 2)).status == status


def test_a_form_without_parts_holds_no_images():
    body = b"--xx--\r\n"
    headers = {"content-type": f"{MULTIPART}; boundary=xx"}
    assert "no images" in refused(lambda: read_images(loaded(PICTURE, images=IMAGES), body, headers, MOST)).what


@settings(max_examples=60)
@given(body=st.binary(max_size=60), boundary=st.text(max_size=8))
def test_any_bytes_of_a_form_are_read_or_refused_in_an_orderly_way(body, boundary):
    try:
        found = read_parts(body, f"{MULTIPART}; boundary={boundary}", 4)
    except ProtocolError:
        found = []
    assert isinstance(found, list)


def test_a_jpeg_header_is_named_as_the_other_type_and_still_read(tmp_path: Path):
    with asked(tmp_path, loaded(PICTURE, images=IMAGES)) as (client, _):
        assert client.post("/invocations", content=file(), headers={"Content-Type": JPEG}).status_code == 200
