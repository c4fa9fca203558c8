"""JPEG and PNG files become a model's raw input, by the release's `serving.images`; without it they are refused.

Pillow decodes. What a header claims is checked before anything is decoded: a file of a few KB can hold a picture of a
gigabyte. An image is taken as it is stored: its orientation tag is not followed, an alpha channel is dropped.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trimtab import pixels
from trimtab.errors import ProtocolError
from trimtab.serving.checked import Array
from trimtab.serving.media import JPEG, MULTIPART, PNG, bare
from trimtab.serving.parts import read_parts
from trimtab.serving.release import Loaded

if TYPE_CHECKING:
    from PIL import Image

TYPES = (JPEG, PNG, MULTIPART)
MOST_PIXELS = 2**24  # of one image; 4096 x 4096
MOST_TOGETHER = 2**26  # of all images of a request; about a second of decoding
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


@dataclass(frozen=True)
class Rule:
    """How files become the input `name`: (n, channels, height, width); a free axis is None."""

    name: str
    mode: str
    height: int | None
    width: int | None
    dtype: str
    scale: float
    resize: bool


def rule_of(loaded: Loaded) -> Rule:
    """What a release says of images.

    Raises:
        ProtocolError: 415, with why it takes none.
    """
    said = loaded.facts.get("serving", {}).get("images")
    if said is None:
        raise _refused("the release does not say how an image becomes its input", "set serving.images in the recipe")
    inputs = loaded.predictor.spec["inputs"]
    mode, scale = str(said["mode"]), float(said["scale"])
    if (why := pixels.misfit(mode, scale, inputs)) is not None:
        raise _refused(why, "correct serving.images in the recipe")
    _, _, height, width = (size if isinstance(size, int) else None for size in inputs[0]["shape"])
    resize = bool(said["resize"]) and height is not None and width is not None
    return Rule(inputs[0]["name"], mode, height, width, str(inputs[0]["dtype"]), scale, resize)


def takes_images(loaded: Loaded) -> bool:
    """Whether a release says how images become its input."""
    try:
        rule_of(loaded)
    except ProtocolError:
        return False
    return True


def read_images(loaded: Loaded, body: bytes, headers: Mapping[str, str], most_bytes: int) -> dict[str, Array]:
    """The input in one image, or in the parts of a multipart body, one a row in their order.

    Args:
        most_bytes: largest size of the input.

    Raises:
        ProtocolError: 415 where the release takes no images; 400 where a file is none, or is of another size.
    """
    rule, header = rule_of(loaded), headers.get("content-type", "")
    several = bare(header) == MULTIPART
    files = read_parts(body, header, _most_files(rule, most_bytes)) if several else [body]
    return {rule.name: decode(rule, files, most_bytes)}


def decode(rule: Rule, files: Sequence[bytes | memoryview], most_bytes: int) -> Array:
    """Image files as (n, channels, height, width) in the input's dtype.

    Raises:
        ProtocolError: a file is no 8-bit JPEG or PNG of the right size, or all of them are too large.
    """
    table, rows, left = pixels.levels(rule.scale, rule.dtype), None, MOST_TOGETHER
    for place, file in enumerate(files):
        where = f"image {place}"
        picture, decoded = _picture(rule, file, where, left)
        left -= decoded
        if rows is None:
            shape = (len(files), *picture.shape)
            if int(np.prod(shape, dtype=np.int64)) * table.itemsize > most_bytes:
                raise ProtocolError(
                    f"the images hold more than {most_bytes} bytes", fix="send fewer", code="BAD_REQUEST", status=413
                )
            rows = np.empty(shape, table.dtype)
        elif picture.shape != rows.shape[1:]:
            raise ProtocolError(f"is {_size(picture)}, the first is {_size(rows[0])}", where=where)
        rows[place] = table[picture]
    if rows is None:
        raise ProtocolError("has no images", where="body")
    return rows


def _picture(rule: Rule, file: bytes | memoryview, where: str, left: int) -> tuple[Array, int]:
    """One file as uint8 (channels, height, width), and how many pixels were decoded for it, at most `left`."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(file), formats=("JPEG", "PNG")) as image:
            _check(rule, image, where, left)
            shown: Image.Image = image.convert(rule.mode)
            decoded = image.width * image.height
    except ProtocolError:
        raise
    except Exception:  # a damaged file makes its decoders raise OSError, SyntaxError, struct.error, zlib.error, ...
        raise ProtocolError("is not a whole JPEG or PNG file", where=where, code="BAD_REQUEST") from None
    if rule.resize and rule.height is not None and rule.width is not None and shown.size != (rule.width, rule.height):
        shown = shown.resize((rule.width, rule.height), Image.Resampling.BILINEAR)
    values = np.asarray(shown)
    return values[None] if rule.mode == "L" else values.transpose(2, 0, 1), decoded


def _check(rule: Rule, image: Image.Image, where: str, left: int) -> None:
    """What the header says, before anything is decoded."""
    width, height = image.size
    wanted = (rule.height or height, rule.width or width)
    if not rule.resize and (height, width) != wanted:
        raise ProtocolError(
            f"is {width} x {height} pixels, the model takes {wanted[1]} x {wanted[0]}",
            where=where, fix="send it in that size, or release with serving.images.resize",
        )  # fmt: skip
    if width * height > min(MOST_PIXELS, left):
        raise ProtocolError(
            f"has {width * height} pixels; at most {MOST_PIXELS} of one are decoded, {MOST_TOGETHER} of all",
            where=where,
        )
    if image.mode not in _EIGHT_BITS:
        raise ProtocolError(f"is stored as {image.mode}, not as 8 bits of grey or RGB", where=where)
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise ProtocolError("is an animation", where=where)


def _most_files(rule: Rule, most_bytes: int) -> int:
    """More parts than this could not be an input anyway."""
    values = pixels.CHANNELS[rule.mode] * (rule.height or 1) * (rule.width or 1)
    return max(1, most_bytes // (values * np.dtype(rule.dtype).itemsize))


def _size(picture: Array) -> str:
    return f"{picture.shape[2]} x {picture.shape[1]}"


def _refused(what: str, fix: str) -> ProtocolError:
    return ProtocolError(what, where="Content-Type", fix=fix, code="BAD_REQUEST", status=415)
