"""Requests whose heads are from other sites, ask for other files, or are no HTTP."""

from __future__ import annotations

from faults.clients import Request
from faults.page_site import Site, answers, pick
from faults.uploads import Rng


def wrong_host(site: Site, rng: Rng) -> Request:
    port = site.port
    host = pick(rng, "evil.example", f"evil.example:{port}", "127.0.0.1:1", f"localhost.evil.example:{port}", "[",
                f"user@127.0.0.1:{port}", f"127.0.0.1:{port}/x", f"127.0.0.1:{port}?", f"0:{port}", "127.0.0.1:99999",
                f"127.0.0.1:{port}.evil.example", f"2130706434.example:{port}", "[::1",
                f"evil.example#127.0.0.1:{port}")  # fmt: skip
    sent = [site.post(site.uploads.good["tone.ogg"], host=host), site.get("/", host=host)][rng.integers(2)]
    return Request([sent], answers(400, 421), may_close=True)


def no_host(site: Site, rng: Rng) -> Request:
    first, host = [("GET / HTTP/1.1", None), ("GET / HTTP/1.0", None), ("GET / HTTP/1.1", "\t")][rng.integers(3)]
    twice = rng.random() < 0.3
    return Request([site.head(first, *(["Host: a", "Host: b"] if twice else []), host=host)], answers(400, 421))


def wrong_origin(site: Site, rng: Rng) -> Request:
    field = pick(rng, "Origin: http://evil.example", "Origin: null", f"Origin: https://127.0.0.1:{site.port}",
                 "Origin: ", f"Origin: http://localhost:{site.port}",
                 f"Origin: http://127.0.0.1:{site.port}.evil.example", "Sec-Fetch-Site: cross-site",
                 "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors",
                 "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors", "Sec-Fetch-Site: evil")  # fmt: skip
    target = pick(rng, "/api/recognise", "/api/explain")
    sent = site.post(site.uploads.good["tone.ogg"], field, target=target)
    return Request([sent], answers(403), reasons=frozenset(["wrong_origin"]))


def websocket(site: Site, rng: Rng) -> Request:
    """Which no browser keeps other sites from opening."""
    fields = ["Connection: Upgrade", "Upgrade: " + pick(rng, "websocket", "h2c", "TLS/1.0"),
              "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]  # fmt: skip
    if rng.random() < 0.5:
        return Request([site.get("/", *fields, "Origin: http://evil.example")], answers(403))
    return Request([site.get("/", *fields)], answers(200))


def path(site: Site, rng: Rng) -> Request:
    up, clip = "../" * int(rng.integers(1, 9)), site.clip
    escaped = up.replace("..", "%2e%2e") if rng.random() < 0.5 else up.replace("/", "%2f")
    target = pick(rng, f"/static/{up}secret.txt", f"/static/{escaped}secret.txt", f"/static/{escaped}etc/passwd",
                  f"/static/{escaped.replace('%', '%25')}etc/passwd", "/static//etc/passwd", "/static/%2fetc%2fpasswd",
                  "/static/..%5c..%5csecret.txt", "/static/....//....//secret.txt", "/static/%00",
                  "/static/page.css%00.js", "/static/" + "a" * 5000, "/static/" + "a/" * 5000,
                  "/static/" + "%2e%2e%2f" * 2000, "/static", "/static/", "//static/page.css",
                  "/static/%ff%fe", "/static/%ED%A0%80", "/./evaluation", f"/api/clips/{escaped}params.yaml",
                  f"/api/clips/{clip}%00", f"/api/clips/{clip}/..", f"/api/clips/{clip}%0a",
                  f"/api/clips/{clip.upper()}x", "/api/clips/" + "0" * 16, "/api/clips/%2e%2e", "/api/clips/",
                  "/api/clips/*", "/api/pictures/..%2fmetrics.json", "/api/pictures/confusion.png",
                  "/api/pictures/__class__", "/secret.txt", f"/api/pictures/{escaped}secret.txt",
                  "http://evil.example/", "*", "secret.txt", "/%0d%0aX-A:%20b", "/api/recognise/../clips",
                  "/proc/self/environ", "/.git/config", "file:///etc/passwd")  # fmt: skip
    return Request([site.get(target)], answers(307, 400, 404, 405))


def method(site: Site, rng: Rng) -> Request:
    verb = pick(
        rng, "DELETE", "PUT", "PATCH", "TRACE", "PROPFIND", "get", "CONNECT", "A" * 300, "GET\0", "OPTIONS", "P OST"
    )
    target = pick(rng, "/", "/api/recognise", "/static/page.css", "*", "/evaluation")
    return Request([site.get(target, method=verb)], answers(400, 404, 405))


def languages(site: Site, rng: Rng) -> Request:
    """Which the model does not know, among others."""
    text = pick(
        rng,
        "xx",
        "es,xx",
        "es,",
        ",",
        "ES",
        "es%00",
        "%ff",
        "es;pt",
        ",".join(f"l{n}" for n in range(9000)),
        "%2c" * 5000,
    )
    body = site.uploads.good["tone.ogg"]
    return Request([site.post(body, target=f"/api/recognise?languages={text}")], answers(400))


def large_head(site: Site, rng: Rng) -> Request:
    size = int(rng.integers(70_000, 400_000))
    sent = (site.get("/", "X: " + "y" * size), site.get("/" + "a" * size), site.get("/?" + "a=b&" * (size // 4)),
            site.get("/", *["X: y"] * (size // 6)), site.get("/", "X" * size + ": y"))[rng.integers(5)]  # fmt: skip
    # one that comes in one piece is read as a whole, up to what a socket gives at once
    return Request([sent], answers(200, 400, 404, 431), may_close=True, must_close=True)


def odd_fields(site: Site, rng: Rng) -> Request:
    ranges = ",".join(f"{n}-{n}" for n in range(2000))
    field = pick(rng, f"Range: bytes={ranges}", "Range: bytes=9-1", "Range: bytes=-0", "Range: bytes=-", "Range: x",
                 "Range: bytes=99999999999999999999-", "Range: bytes=0-1,0-1,0-1", "If-None-Match: *", "If-Range: x",
                 "If-Modified-Since: 99 Foo 99999 99:99:99", "If-Modified-Since: ,",
                 "Accept-Encoding: " + "gzip," * 2000, "Cookie: " + "a=b; " * 5000, "X-Forwarded-Host: evil.example",
                 "Content-Type: multipart/form-data; boundary=", "A\0: b", "A: b\0c", "A : b", " A: b", "A\r: b",
                 "\xff: \xff", "Content-Encoding: gzip")  # fmt: skip
    target = pick(rng, "/static/page.css", "/api/pictures/confusion", "/")
    return Request([site.get(target, field)], answers(200, 206, 304, 400, 416, 421))  # a folded Host is no host


def no_http(site: Site, rng: Rng) -> Request:
    sent = (rng.bytes(int(rng.integers(1, 5000))), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.bytes(500),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n", b"\r\n" * 50_000, b"\n\n\n",
            b"GET  / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\0" * 70_000)[rng.integers(10)]  # fmt: skip
    first = answers(400, 421)  # h11 takes other versions for 1.1; there is no Host
    return Request([sent], (*first, *answers(400)), may_close=True, must_close=True, ending="half")


def experiments(site: Site, rng: Rng) -> Request:
    """There is no DVC here, which is told."""
    return Request([site.get("/api/experiments")], answers(500), reasons=frozenset(["dvc"]))
