"""Clients that hang up, say nothing, drip, or do not take what they asked for."""

from __future__ import annotations

from faults.clients import Request
from faults.page_site import GRACE_SECONDS, Site, answers, pick
from faults.uploads import Rng


def hung_up(site: Site, rng: Rng) -> Request:
    """In the head, in the body, or before the answer."""
    sent = site.post(site.uploads.any_good(rng), target="/api/" + pick(rng, "recognise", "explain"))
    end = (int(rng.integers(1, 60)), int(rng.integers(60, len(sent))), len(sent))[rng.integers(3)]
    return Request([sent[:end]], pause_seconds=float(rng.random()) * 0.3, ending="reset")


def silent(site: Site, rng: Rng) -> Request:
    """Nothing is said, at first or after an answer."""
    limit = site.limits.head_seconds + GRACE_SECONDS
    if rng.random() < 0.5:
        return Request([site.get("/static/page.css")], answers(200), must_close=True, patience_seconds=limit)
    return Request([], must_close=True, patience_seconds=limit)


def endless_head(site: Site, rng: Rng) -> Request:
    drips = [b"X-%d: y\r\n" % n for n in range(1000)] if rng.random() < 0.5 else [b"x"] * 1000
    limit = site.limits.head_seconds + GRACE_SECONDS
    return Request([site.get("/")[:-4] + b"\r\nA: ", *drips], pause_seconds=float(rng.uniform(0.1, 1)), must_close=True,
                   patience_seconds=limit)  # fmt: skip


def endless_body(site: Site, rng: Rng) -> Request:
    if rng.random() < 0.5:
        head, drip = site.head("POST /api/recognise HTTP/1.1", "Content-Length: 100000"), b"R" * 10
    else:
        head, drip = site.head("POST /api/explain HTTP/1.1", "Transfer-Encoding: chunked"), b"2\r\nab\r\n"
    return Request([head, *[drip] * 2000], answers(408), pause_seconds=float(rng.uniform(0.1, 2)),
                   reasons=frozenset(["too_slow"]))  # fmt: skip


def dropped_body(site: Site, rng: Rng) -> Request:
    body = site.uploads.any_good(rng)
    pieces = [body[start : start + 1000] for start in range(0, int(rng.integers(2000, 9000)), 1000)]
    head = site.head("POST /api/recognise HTTP/1.1", f"Content-Length: {len(body)}")
    return Request([head, *pieces], pause_seconds=float(rng.uniform(0.1, 1)), ending="reset", may_close=True)


def unread(site: Site, rng: Rng) -> Request:
    """More than the kernel takes off the server's hands."""
    times = 4 if rng.random() < 0.5 else 1
    seconds = site.limits.flush_seconds + GRACE_SECONDS
    return Request([site.get("/api/pictures/confusion") * times], unread_seconds=seconds,
                   unread_bytes=site.picture_bytes * times)  # fmt: skip
