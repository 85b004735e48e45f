"""The site that is asked, and requests that are all right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.page.limits import Limits
from faults.clients import Expected, Request
from faults.uploads import Rng, Uploads

GRACE_SECONDS = 20.0  # past a limit, on a machine with other work
TONE = "tone as if it was speech"


@dataclass(frozen=True)
class Site:
    """What the requests are made from. clip : an id that is played; picture_bytes : of the largest file served."""

    port: int
    uploads: Uploads
    limits: Limits
    clip: str
    picture_bytes: int

    def head(self, first: str, *fields: str, host: str | None = "") -> bytes:
        """A request's head, ready to be sent."""
        own = f"127.0.0.1:{self.port}"
        lines = [first, *([] if host is None else [f"Host: {host or own}"]), *fields, "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def get(self, target: str, *fields: str, method: str = "GET", host: str | None = "") -> bytes:
        return self.head(f"{method} {target} HTTP/1.1", *fields, host=host)

    def post(self, body: bytes, *fields: str, target: str = "/api/recognise", host: str | None = "") -> bytes:
        return self.head(f"POST {target} HTTP/1.1", f"Content-Length: {len(body)}", *fields, host=host) + body


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def answers(*statuses: int, like: str = "") -> tuple[Expected]:
    return (Expected(frozenset(statuses), like),)


Make = Callable[[Site, Rng], Request]


def pick(rng: Rng, *values: str) -> str:
    return values[rng.integers(len(values))]


def recording(site: Site, rng: Rng) -> Request:
    name = pick(rng, *sorted(site.uploads.good))
    return Request([site.post(site.uploads.good[name])], answers(200, like=name))


def spoken(query: str, like: str = "") -> Make:
    """The voice, asked about so; like : the query whose answer it must have."""

    def make(site: Site, rng: Rng) -> Request:
        body = site.uploads.good["spoken.wav"]
        return Request([site.post(body, target=f"/api/{query}")], answers(200, like=like or query))

    return make


def in_chunks(site: Site, rng: Rng) -> Request:
    head = site.head("POST /api/recognise HTTP/1.1", "Transfer-Encoding: chunked", "Expect: 100-continue")
    body = chunked(site.uploads.good["spoken.m4a"], int(rng.integers(1, 9000)))
    return Request([head, body], answers(200, like="spoken.m4a"))


def page(site: Site, rng: Rng) -> Request:
    target = pick(rng, "/", "/evaluation", "/experiments", "/static/page.css", "/static/recognise.js",
                  "/api/pictures/confusion", f"/api/clips/{site.clip}", "/?a=%00&%ff=\x7e")  # fmt: skip
    head_only = rng.random() < 0.2 and "api/clips" not in target
    return Request([site.get(target, method="HEAD" if head_only else "GET")], answers(200), head_only=head_only)


def kept_open(site: Site, rng: Rng) -> Request:
    """Four on one connection, sent at once."""
    good, bad = site.post(site.uploads.good["tone.flac"], target="/api/recognise?all_sound=1"), site.post(b"no sound")
    sent = good + bad + site.get("/static/../../etc/passwd") + good
    tone = Expected(frozenset([200]), TONE)
    return Request([sent], (tone, *answers(422), *answers(404), tone))


def references(site: Site) -> dict[str, Request]:
    """By the names that `like` has: asked while nobody else asks."""
    good = site.uploads.good
    found = {name: site.post(good[name]) for name in sorted(good)}
    for query in ("recognise?languages=es,pt", "recognise?all_sound=1", "explain"):
        found[query] = site.post(good["spoken.wav"], target=f"/api/{query}")
    found[TONE] = site.post(good["tone.flac"], target="/api/recognise?all_sound=1")
    return {name: Request([sent], answers(200)) for name, sent in found.items()}


def old(site: Site, rng: Rng) -> Request:
    body = site.uploads.good["tone.ogg"]
    head = site.head("POST /api/recognise HTTP/1.0", f"Content-Length: {len(body)}")
    return Request([head + body], answers(200, like="tone.ogg"), must_close=True)
