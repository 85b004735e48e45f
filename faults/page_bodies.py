"""Requests whose bodies are damaged, hostile, too large, or not as long as they say."""

from __future__ import annotations

from faults.clients import Request
from faults.page_site import Make, Site, answers, chunked, pick
from faults.uploads import Rng

UNUSABLE = frozenset(
    ("empty_file", "not_audio", "no_audio_stream", "undecodable", "too_short", "too_long", "silent", "not_finite",
     "no_speech", "timeout", "bomb")
)  # fmt: skip


def damaged(kind: str) -> Make:
    def make(site: Site, rng: Rng) -> Request:
        body: bytes = getattr(site.uploads, kind)(rng)
        path = pick(rng, "recognise", "recognise", "recognise?all_sound=1", "explain")
        return Request([site.post(body, target=f"/api/{path}")], answers(200, 422, 503), reasons=UNUSABLE)

    return make


def hostile(kind: str) -> Make:
    """Never taken for a recording."""

    def make(site: Site, rng: Rng) -> Request:
        body: bytes = getattr(site.uploads, kind)(rng)
        return Request([site.post(body)], answers(422), reasons=UNUSABLE)

    return make


def odd_sound(site: Site, rng: Rng) -> Request:
    uploads = site.uploads
    body = (uploads.not_numbers(), uploads.silent(), b"", uploads.good["tone.flac"][:1])[rng.integers(4)]
    return Request([site.post(body)], answers(422), reasons=UNUSABLE)


def referring(site: Site, rng: Rng) -> Request:
    return Request([site.post(site.uploads.referring())], answers(200, 422), reasons=UNUSABLE)


def bomb(site: Site, rng: Rng) -> Request:
    return Request([site.post(site.uploads.bombs[rng.integers(2)])], answers(200, 422, 503), reasons=UNUSABLE)


def too_large(site: Site, rng: Rng) -> Request:
    """Told at once where the size is declared, else at the first byte too many; all of it is sent in any case."""
    body = bytes(site.limits.upload_bytes + 1)
    kind = rng.integers(3)
    if kind == 0:
        sent = [site.head("POST /api/recognise HTTP/1.1", f"Content-Length: {rng.integers(10**9, 10**18)}")]
    elif kind == 1:
        sent = [site.post(body)]
    else:
        head = site.head("POST /api/recognise HTTP/1.1", "Transfer-Encoding: chunked")
        sent = [head + chunked(body, 100_000)]
    return Request(sent, answers(413), reasons=frozenset(["too_large"]))


def too_short(site: Site, rng: Rng) -> Request:
    body = site.uploads.good["tone.flac"]
    head = site.head("POST /api/recognise HTTP/1.1", f"Content-Length: {len(body) - int(rng.integers(1, 2000))}")
    return Request([head + body], (*answers(200, 422), *answers(400)), may_close=True, must_close=True)


def lengths(site: Site, rng: Rng) -> Request:
    fields = pick(rng, "Content-Length: -1", "Content-Length: 1e3", "Content-Length: 0x10", "Content-Length: 5, 6",
                  "Content-Length: 5\r\nContent-Length: 6", "Content-Length: \xb2", "Transfer-Encoding: gzip",
                  "Transfer-Encoding: chunked, chunked", "Content-Length: " + "9" * 400)  # fmt: skip
    return Request([site.head("POST /api/recognise HTTP/1.1", fields) + b"abcdef"], answers(400, 413), may_close=True)


def both_lengths(site: Site, rng: Rng) -> Request:
    """The way in which requests are smuggled past a proxy."""
    head = site.head("POST /api/recognise HTTP/1.1", "Content-Length: 4", "Transfer-Encoding: chunked")
    return Request([head + b"0\r\n\r\n" + site.get("/secret.txt")], answers(400, 422), may_close=True)


def chunks(site: Site, rng: Rng) -> Request:
    body = (b"5\r\nabcdefgh\r\n", b"zz\r\nabc\r\n", b"-5\r\nabcde\r\n", b"f" * 40 + b"\r\n", b"5;" + b"x" * 80_000,
            b"5\r\nabcde\r\n0\r\nX: " + b"y" * 80_000, b"\0\r\n\r\n")[rng.integers(7)]  # fmt: skip
    head = site.head("POST /api/recognise HTTP/1.1", "Transfer-Encoding: chunked")
    return Request([head + body], answers(400), may_close=True, must_close=True)


def stopped(site: Site, rng: Rng) -> Request:
    """Less than was declared, and the end of it."""
    body = site.uploads.cut(rng)
    fields = "Transfer-Encoding: chunked" if rng.random() < 0.5 else f"Content-Length: {len(body) + 1000}"
    sent = site.head("POST /api/recognise HTTP/1.1", fields) + (b"fffff\r\n" if "chunked" in fields else b"") + body
    return Request([sent], answers(400), may_close=True, ending="half")
