"""Hostile requests as bytes: what a broken client, a scanner or an enemy sends. From one seed always the same ones."""

from __future__ import annotations

import functools
import gzip
import json
import random
from collections.abc import Callable

PATHS = [
    "/invocations", "/labels", "/ping", "/health", "/ready", "/version", "/metrics", "/", "/reports", "/reports/",
    "/reports/x.html", "/v2/health/live", "/v2/models/soak/infer", "/openapi.json", "/nope",
]  # fmt: skip
TRICKS = [
    "/../", "/..%2f..%2fetc/passwd", "%2e%2e/", "%252e%252e%252f", "//", "/./", "%00", "\\..\\", ";x=1", "?a=b&a=c",
    "#x", "%ff", "%", "%zz", "/reports/..%5c..%5cx", "/reports/%2e%2e/serving-tokens.json", "http://other/version", "*",
]  # fmt: skip
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW", "get", ""]
VALUES = [
    "0", "-0", "1e308", "1e999", "-1e39", "1e-400", "9223372036854775808", "0.1e1", "01", "1.", ".5", "+1", "NaN",
    "Infinity", "-Infinity", "null", "true", "false", '""', '"x"', '"\\u0000"', '"\\ud800"', "[]", "{}", "[[]]",
    "[null]", '{"a": 1}', "1" * 400, '"' + "x" * 3000 + '"',
]  # fmt: skip
HEADER_NAMES = [
    "X-Request-Id", "Content-Type", "Content-Encoding", "Content-Length", "Transfer-Encoding", "Expect", "Upgrade",
    "Connection", "Origin", "Authorization", "Host", "Cookie", "Accept", "Traceparent", "X-Forwarded-For", "Range",
]  # fmt: skip
HEADER_VALUES = [
    "", " ", "x", "x" * 5000, "application/json", "application/json; charset=UTF-16", "text/csv",
    "multipart/form-data", "gzip", "br, gzip", "identity", "chunked", "chunked, chunked", "100-continue", "websocket",
    "upgrade", "keep-alive, upgrade", "null",
    "http://evil.example", "Bearer x", "-1", "99999999999999999999", "0x10", "1, 2", "\xff\xfe", "a\x00b", "bytes=0-",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "${jndi:ldap://x}", "' or 1=1 --", "<script>",
]  # fmt: skip
FORMS = ["instances", "inputs", "dataframe_split", "dataframe_records", "params", "input", ""]
MADE = Callable[[random.Random], bytes]


def hostile(draw: random.Random) -> bytes:
    """One request, whole or not, well-formed or not."""
    kinds: list[tuple[int, MADE]] = [
        (30, _mutated_json), (15, _odd_json), (8, _nested), (8, _csv), (10, _labels), (10, _headers), (10, _targets),
        (4, _compressed), (3, _chunked), (2, _garbage),
    ]  # fmt: skip
    return draw.choices([make for _, make in kinds], [weight for weight, _ in kinds])[0](draw)


def request(target: str, body: bytes = b"", headers: dict[str, str] | None = None, method: str = "POST") -> bytes:
    """An HTTP request; headers that are given win over the ones it needs."""
    needed = {"Host": "t", "Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"{name}: {value}" for name, value in {**needed, **(headers or {})}.items()]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("latin-1", "replace") + body


def _seed_body(draw: random.Random) -> bytes:
    rows = [[round(draw.uniform(-3, 3), 3) for _ in range(16)] for _ in range(draw.randint(1, 4))]
    columns = [f"c{index}" for index in range(16)]
    return json.dumps(
        draw.choice(
            [
                {"instances": rows},
                {"inputs": {"input": rows}},
                {"dataframe_split": {"columns": columns, "data": rows}},
                {"dataframe_records": [dict(zip(columns, row, strict=True)) for row in rows]},
            ]
        )
    ).encode()


def _mutated_json(draw: random.Random) -> bytes:
    body = bytearray(_seed_body(draw))
    for _ in range(draw.choice([0, 1, 1, 2, 5, 30])):
        at = draw.randrange(len(body) + 1)
        what = draw.randrange(5)
        if what == 0:
            body[at:at] = draw.choice(VALUES).encode()
        elif what == 1:
            del body[at : at + draw.randint(1, 20)]
        elif what == 2 and at < len(body):
            body[at] = draw.randrange(256)
        elif what == 3:
            body[at:at] = body[: draw.randint(0, 60)]
        else:
            body[at:at] = draw.choice([b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\xff", b"\0"])
    return request("/invocations", bytes(body))


def _odd_json(draw: random.Random) -> bytes:
    value = draw.choice(VALUES)
    for _ in range(draw.randint(0, 3)):
        value = draw.choice([f"[{value}]", f"[{value}, {draw.choice(VALUES)}]", f'{{"{draw.choice(FORMS)}": {value}}}'])
    return request("/invocations", f'{{"{draw.choice(FORMS)}": {value}}}'.encode())


def _nested(draw: random.Random) -> bytes:
    depth = draw.choice([20, 70, 500, 1100, 5000, 50_000])
    opened, closed = draw.choice([("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
    inner = opened * depth + "1" + (closed * depth if draw.random() < 0.7 else "")
    return request("/invocations", f'{{"instances": {inner}}}'.encode())


def _csv(draw: random.Random) -> bytes:
    cells = [[draw.choice(["1", "0.5", "", "x", '"', '""', "nan", "1e999", "\0", "é"]) for _ in range(16)]]
    lines = [",".join(f"c{index}" for index in range(16)), *(",".join(row) for row in cells * draw.randint(0, 3))]
    text = draw.choice(["\n", "\r\n", "\r", "\n\n"]).join(lines)
    return request("/invocations", text.encode(), {"Content-Type": "text/csv"})


def _labels(draw: random.Random) -> bytes:
    keys = ["request_id", "row", "label", "other"]
    entry = {key: draw.choice(["a", "", "x" * 200, 0, 1, -1, 2**70, 1.5, None, True, [], {}]) for key in keys}
    for key in draw.sample(keys, draw.randint(0, 2)):
        del entry[key]
    body = draw.choice([[entry] * draw.randint(0, 3), entry, [[entry]], "x", 5])
    return request("/labels", json.dumps(body).encode())


def _headers(draw: random.Random) -> bytes:
    chosen = {draw.choice(HEADER_NAMES): draw.choice(HEADER_VALUES) for _ in range(draw.randint(1, 4))}
    many = {f"X-{index}": "y" for index in range(draw.choice([0, 0, 0, 50, 150, 3000]))}
    return request(draw.choice(PATHS), _seed_body(draw), {**many, **chosen}, draw.choice(["POST", "GET"]))


def _targets(draw: random.Random) -> bytes:
    target = draw.choice(PATHS) + "".join(draw.choice(TRICKS) for _ in range(draw.randint(0, 3)))
    target = draw.choice([target, draw.choice(TRICKS) + target, target + "x" * draw.choice([0, 0, 9000, 40_000])])
    return request(target, b"", {"Content-Length": "0"}, draw.choice(METHODS))


def _compressed(draw: random.Random) -> bytes:
    body = draw.choice([gzip.compress(_seed_body(draw), 1), *_compressed_once()])
    if draw.random() < 0.5:
        body = body[: draw.randrange(len(body))] + bytes([draw.randrange(256)]) + body
    return request("/invocations", body, {"Content-Encoding": "gzip"})


@functools.cache
def _compressed_once() -> list[bytes]:
    """A bomb, nothing, and brackets."""
    return [gzip.compress(content, 1) for content in (b" " * 30_000_000, b"", b"[" * 100_000)]


def _chunked(draw: random.Random) -> bytes:
    body = _seed_body(draw)
    endless = "ffffffffffffffff" if draw.random() < 0.02 else "0"  # nobody answers before its end: each costs seconds
    size = draw.choice([f"{len(body):x}", endless, "-1", "zz", f"{len(body):x};x=y"])
    head = request("/invocations", b"", {"Transfer-Encoding": "chunked"}).replace(b"Content-Length: 0\r\n", b"")
    return head + size.encode() + b"\r\n" + body + b"\r\n0\r\n" + b"X: y\r\n" * draw.choice([0, 1, 300]) + b"\r\n"


def _garbage(draw: random.Random) -> bytes:
    return draw.randbytes(draw.randint(1, 3000)) + draw.choice([b"", b"\r\n\r\n"])
