"""The page's server as a real process, asked over real sockets: what it answers, refuses, and leaves behind."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import time
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import speech_like
from page_project import LANGUAGES, page_project

from app.page.experiments import digest
from app.page.guard import allowed_host
from faults.served import Served, serve, start, temporary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_project(tmp_path_factory)


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with serve(folder, "--max-megabytes", "4", "--max-seconds", "20") as one:
        yield one
    assert not [line for line in one.lines if "Traceback" in line], one.lines
    assert one.process.returncode == 0


@pytest.fixture(scope="module")
def clip(folder: Path) -> bytes:
    """Four seconds of a voice."""
    return (folder.parent / "spoken.wav").read_bytes()


def ask(
    served: Served, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, method: str = ""
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", served.port, timeout=60)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def fault(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    error = json.loads(answer[2])["error"]
    assert error["message"]
    return answer[0], error["reason"]


def left_in(folder: Path) -> list[Path]:
    return sorted(temporary(folder).rglob("*"))


def test_a_recording_is_recognised(served: Served, clip: bytes) -> None:
    status, headers, body = ask(served, "/api/recognise", clip)
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "application/json", "no-store")
    found = json.loads(body)
    assert sorted(name for name, _ in found["ranking"]) == sorted(LANGUAGES)
    assert sum(p for _, p in found["ranking"]) == pytest.approx(1)
    assert found["seconds"] == 4
    assert 2 < found["speech_seconds"] <= 4
    assert {one["language"] for one in found["segments"]} <= set(LANGUAGES)
    assert 0 <= found["segments"][0]["start"] < found["segments"][-1]["end"] <= 4
    picture = found["spectrogram"]
    cells = picture["bands"] * picture["columns"]
    assert len(base64.b64decode(picture["levels"])) == cells
    why = json.loads(ask(served, "/api/explain", clip)[2])
    assert (why["language"], why["start"] < why["end"] <= 4) == (found["ranking"][0][0], True)
    assert len(base64.b64decode(why["levels"])) == cells
    assert [len(one) for one in why["probabilities"].values()] == [len(why["times"])] * 3


def test_what_is_no_speech_is_said_to_be_none_unless_all_sound_is_taken(served: Served) -> None:
    sound = wav(0.1 * np.random.default_rng(0).standard_normal(32000), 16000)
    found = json.loads(ask(served, "/api/recognise", sound)[2])
    assert (found["language"], found["ranking"], found["segments"]) == ("no_speech", [], [])
    assert fault(ask(served, "/api/explain", sound)) == (422, "no_speech")
    assert len(json.loads(ask(served, "/api/recognise?all_sound=1", sound)[2])["ranking"]) == 3


def test_the_spectrogram_shows_a_tone_where_it_is(served: Served) -> None:
    rate, hertz = 16000, 1000
    time_ = np.arange(4 * rate) / rate
    tone = np.where(time_ < 2, np.sin(2 * np.pi * hertz * time_), 0).astype(np.float32) * 0.5
    found = json.loads(ask(served, "/api/recognise", wav(tone, rate))[2])["spectrogram"]
    levels = np.frombuffer(base64.b64decode(found["levels"]), np.uint8).reshape(found["bands"], found["columns"])
    low, here, high = np.log1p(np.array([found["lowest_hz"], hertz, found["highest_hz"]]) / 700)
    expected = (here - low) / (high - low) * (found["bands"] - 1)
    assert abs(int(levels[:, found["columns"] // 4].argmax()) - expected) <= 1
    assert levels[:, : found["columns"] // 2 - 10].max(axis=0).min() > 240
    assert levels[:, found["columns"] // 2 + 10 :].max() == 0


def wav(samples: np.ndarray, rate_hz: int) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate_hz, format="WAV")
    return out.getvalue()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (422, "empty_file")),
        (b"hello, this is no sound at all" * 40, (422, "not_audio")),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", (422, "not_audio")),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", (422, "not_audio")),
        (wav(np.zeros(16000, np.float32), 16000), (422, "silent")),
        (wav(speech_like(1, 0.1), 16000), (422, "too_short")),
        (bytes(4_000_001), (413, "too_large")),
    ],
    ids=["empty", "text", "playlist", "torn", "silent", "short", "large"],
)
def test_what_cannot_be_used_is_told(served: Served, folder: Path, body: bytes, expected: tuple[int, str]) -> None:
    assert fault(ask(served, "/api/recognise", body)) == expected
    assert left_in(folder) == []


def test_an_upload_that_does_not_tell_its_size_is_cut_off(served: Served, folder: Path) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield bytes(100_000)

    connection = HTTPConnection("127.0.0.1", served.port, timeout=30)
    try:
        connection.request("POST", "/api/recognise", endless(), {"transfer-encoding": "chunked"}, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # it closed before all was sent
    finally:
        connection.close()
    assert ask(served, "/")[0] == 200
    assert left_in(folder) == []


def test_languages_are_restricted(served: Served, clip: bytes) -> None:
    ranking = dict(json.loads(ask(served, "/api/recognise", clip)[2])["ranking"])
    found = json.loads(ask(served, "/api/recognise?languages=es,pt", clip)[2])
    share = ranking["es"] + ranking["pt"]
    expected = {name: pytest.approx(ranking[name] / share, rel=0.05) for name in ("es", "pt")}
    assert dict(found["ranking"]) == expected
    assert found["language"] in expected
    assert fault(ask(served, "/api/recognise?languages=es,xx", clip)) == (400, "unknown_language")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1:1", "localhost.evil.example:{port}", ""]
)
def test_other_hosts_are_refused(served: Served, host: str) -> None:
    status, _, body = ask(served, "/", headers={"Host": host.format(port=served.port)})
    assert status == 421
    assert b"<html" not in body


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "LOCALHOST"])
def test_own_names_are_answered(served: Served, name: str) -> None:
    assert ask(served, "/", headers={"Host": f"{name}:{served.port}"})[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://localhost:{port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_other_pages_are_refused(served: Served, clip: bytes, headers: dict[str, str]) -> None:
    headers = {name: value.format(port=served.port) for name, value in headers.items()}
    assert fault(ask(served, "/api/recognise", clip, headers)) == (403, "wrong_origin")
    own = {"Origin": f"http://127.0.0.1:{served.port}", "Sec-Fetch-Site": "same-origin"}
    assert ask(served, "/api/recognise", clip, own)[0] == 200


def test_host_rules() -> None:
    assert allowed_host("127.0.0.1:8765", "127.0.0.1", 8765)
    assert allowed_host("[::1]:8765", "::1", 8765)
    assert allowed_host("localhost", "localhost", 80)
    assert not allowed_host("127.0.0.1", "127.0.0.1", 8765)
    assert not allowed_host("192.168.1.5:8765", "127.0.0.1", 8765)
    assert not allowed_host("user@127.0.0.1:8765", "127.0.0.1", 8765)
    assert not allowed_host("127.0.0.1:99999", "127.0.0.1", 8765)
    for end in ("?", "#", "/", "/x", "?x", "#x"):
        assert not allowed_host(f"127.0.0.1:8765{end}", "127.0.0.1", 8765)
    assert not allowed_host("@127.0.0.1:8765", "127.0.0.1", 8765)
    assert allowed_host("192.168.1.5:8765", "0.0.0.0", 8765)  # noqa: S104
    assert allowed_host(f"{socket.gethostname()}:8765", "0.0.0.0", 8765)  # noqa: S104
    assert not allowed_host("rebound.example:8765", "0.0.0.0", 8765)  # noqa: S104


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/nothing", "GET"),
        ("/static/../server.py", "GET"),
        ("/static/%2e%2e/server.py", "GET"),
        ("/static/..%2f..%2frecognizer.py", "GET"),
        ("/static//etc/passwd", "GET"),
        ("/api/clips/..%2f..%2fparams.yaml", "GET"),
        ("/api/clips/0000000000000000", "GET"),
        ("/api/pictures/..%2fmetrics.json", "GET"),
        ("/api/recognise", "GET"),
        ("/", "POST"),
        ("/api/recognise", "DELETE"),
    ],
)
def test_nothing_else_is_served(served: Served, path: str, method: str) -> None:
    status, headers, body = ask(served, path, method=method)
    assert status in {404, 405}
    assert b"import" not in body
    assert headers["x-content-type-options"] == "nosniff"


def test_every_answer_is_closed_to_other_sites(served: Served) -> None:
    for path in ("/", "/evaluation", "/experiments", "/static/page.css", "/static/recognise.js", "/nothing"):
        _, headers, body = ask(served, path)
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';"), path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
        assert b"style=" not in body, path
        assert b"https://" not in body, path


def test_many_at_once_and_slow_ones_among_them(served: Served, folder: Path, clip: bytes) -> None:
    """Heads and bodies that never end hold nobody up, and are cut off in the end; workers and files stay as few."""
    slow = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(6)]
    host = f"Host: 127.0.0.1:{served.port}\r\n".encode()
    for number, one in enumerate(slow):
        one.sendall(b"GET / HTTP/1.1\r\nHos" if number % 2 else b"POST /api/recognise HTTP/1.1\r\n" + host)
        if number % 2 == 0:
            one.sendall(b"Content-Length: 1000\r\n\r\nRIFF")
    workers = served.children()
    bodies = [clip, b"no sound", b"", bytes(5_000_000), clip[: len(clip) // 3]]

    def one_of(number: int) -> int:
        headers = {"Origin": "http://evil.example"} if number % 7 == 0 else {}
        return ask(served, "/api/recognise", bodies[number % 5], headers)[0]

    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(one_of, range(100)))
    assert set(statuses) == {200, 403, 413, 422}
    assert [status for number, status in enumerate(statuses) if number % 5 == 0 and number % 7] == [200] * 17
    for number, one in enumerate(slow):
        one.settimeout(60)
        answer = one.recv(1000)  # the heads are dropped; the bodies are answered 408
        assert answer == b"" if number % 2 else answer.startswith(b"HTTP/1.1 408 ")
        one.close()
    assert served.children() == workers
    assert left_in(folder) == []
    assert not served.open_uploads()


def test_a_worker_that_dies_is_replaced(served: Served, clip: bytes) -> None:
    """As when a decoder crashes: the upload at hand is lost, the next ones are not."""
    before = served.children()
    for pid in before:
        if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    statuses = [ask(served, "/api/recognise", clip)[0] for _ in range(5)]
    assert statuses[-1] == 200
    assert set(statuses) <= {200, 422}


def test_one_that_takes_too_long_is_ended(folder: Path) -> None:
    """An hour of noise; a worker may take a tenth of a second."""
    noise = np.random.default_rng(1).integers(-3000, 3000, 16000 * 1200).astype(np.int16)
    with serve(folder, "--max-seconds", "0.1") as own:
        assert fault(ask(own, "/api/recognise", wav(noise, 16000))) == (503, "timeout")
        assert ask(own, "/")[0] == 200
    assert left_in(folder) == []


def test_it_ends_with_all_its_processes(folder: Path) -> None:
    """While a worker is at it, too: who waits is told, if it is ended in good order."""
    tone = np.sin(np.arange(8000 * 1800) * 0.3).astype(np.float32)
    long = io.BytesIO()
    soundfile.write(long, tone, 8000, format="FLAC")
    for number in (signal.SIGINT, signal.SIGKILL):
        with serve(folder) as own, ThreadPoolExecutor(1) as pool:
            children = own.children()
            assert len(children) > 1
            waiting = pool.submit(ask, own, "/api/recognise", long.getvalue())
            while not own.open_uploads():
                time.sleep(0.01)
            own.process.send_signal(number)
            if number == signal.SIGINT:
                assert fault(waiting.result()) == (503, "ending")
            else:
                assert isinstance(waiting.exception(), OSError)
            assert own.process.wait(10) == (-number if number == signal.SIGKILL else 0)
            deadline = time.monotonic() + 10
            while alive := [pid for pid in children if Path(f"/proc/{pid}/cwd").exists()]:
                assert time.monotonic() < deadline, alive
                time.sleep(0.05)
        assert left_in(folder) == []


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--host", "0.0.0.0"], 2, "--allow-network"),  # noqa: S104
        (["--host", "192.0.2.1", "--allow-network"], 2, "cannot listen"),
        (["--host", "no such host"], 2, "--host"),
        (["--model", "nowhere"], 74, "make repro"),
        (["--max-megabytes", "0"], 2, "number above 0"),
    ],
)
def test_it_says_why_it_does_not_start(folder: Path, options: list[str], status: int, words: str) -> None:
    output, _ = (process := start(folder, "--port", "0", *options)).communicate(timeout=60)
    assert process.returncode == status, output
    assert words in output
    assert "Traceback" not in output


def test_a_taken_port_and_a_broken_model(served: Served, folder: Path, tmp_path: Path) -> None:
    output, _ = (process := start(folder, "--port", str(served.port))).communicate(timeout=60)
    assert (process.returncode, "is taken" in output) == (75, True), output
    (tmp_path / "model.onnx").write_bytes(b"no model")
    output, _ = (process := start(folder, "--port", "0", "--model", str(tmp_path))).communicate(timeout=60)
    assert (process.returncode, "is not a model of this version" in output) == (74, True), output


def test_the_evaluation_and_its_clips(served: Served, folder: Path) -> None:
    status, _, body = ask(served, "/evaluation")
    text = body.decode()
    assert status == 200
    found = json.loads((folder / "metrics/evaluate/metrics.json").read_text())
    assert f"{found['accuracy']:.3f}" in text
    worst = json.loads((folder / "metrics/evaluate/worst.json").read_text())
    clips = [clip for one in worst for clip in one["clips"]]
    assert clips
    for clip in clips:
        assert f'data-clip="{clip}"' in text
        status, headers, body = ask(served, f"/api/clips/{clip}")
        assert (status, headers["content-type"]) == (200, "audio/wav")
        with wave.open(io.BytesIO(body)) as sound:
            assert (sound.getframerate(), sound.getnframes()) == (16000, 32000)
    training = [
        line.split(",")[0] for line in (folder / "data/manifest.csv").read_text().splitlines() if ",train," in line
    ]
    assert ask(served, f"/api/clips/{training[0]}")[0] == 404  # not of the evaluation
    assert ask(served, "/api/pictures/reliability")[2].startswith(b"\x89PNG")


def test_without_an_evaluation_it_says_what_to_run(folder: Path, tmp_path: Path) -> None:
    with serve(folder, "--model", str(folder / "models/export"), cwd=tmp_path) as own:
        status, _, body = ask(own, "/evaluation")
        assert (status, b"make repro" in body) == (200, True)
        assert fault(ask(own, "/api/experiments"))[1] == "dvc"
        assert ask(own, "/api/clips/0123456789abcdef")[0] == 404
        (tmp_path / "metrics/evaluate").mkdir(parents=True)
        (tmp_path / "metrics/evaluate/metrics.json").write_text('{"accuracy": "<script>alert(1)</script>"}')
        status, _, body = ask(own, "/evaluation")
        assert (status, b"dvc repro evaluate" in body, b"<script>alert" in body) == (200, True, False)
        # corpora that were never trained on, and scores that only exist with two languages
        shutil.copytree(folder / "metrics", tmp_path / "metrics", dirs_exist_ok=True)
        path = tmp_path / "metrics/evaluate/metrics.json"
        values = json.loads(path.read_text()) | {"eer": None, "eer_low": None, "cavg_low": None}
        values["extra_corpora"] = {"<radio>": {"accuracy": 0.123, "accuracy_low": None, "n_clips": 7, "n_groups": 2}}
        path.write_text(json.dumps(values))
        status, _, body = ask(own, "/evaluation")
        text = body.decode()
        assert (status, "&lt;radio&gt;" in text, "0.123" in text, "Equal error rate" in text) == (
            200,
            True,
            True,
            False,
        )


def test_experiments_are_those_that_dvc_shows(served: Served, folder: Path) -> None:
    status, _, body = ask(served, "/api/experiments")
    assert status == 200, body
    found = json.loads(body)
    assert [row["kind"] for row in found["rows"]] == ["workspace", "commit"]
    assert found["params"] == ["train.epochs"]
    assert [row["params"] for row in found["rows"]] == [{"train.epochs": 3}, {"train.epochs": 2}]
    values = json.loads((folder / "metrics/evaluate/metrics.json").read_text())
    for row in found["rows"]:
        assert row["scores"]["accuracy"] == [values[f"accuracy{end}"] for end in ("", "_low", "_high")]


def test_who_waits_for_the_experiments_keeps_nobody_from_anything_else(folder: Path, tmp_path: Path) -> None:
    """More of them than the server has threads, and DVC, which takes its time, has nothing to show."""
    with serve(folder, "--model", str(folder / "models/export"), cwd=tmp_path) as own, ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(ask, own, "/api/experiments") for _ in range(60)]
        while own.open_sockets() < 61:
            time.sleep(0.01)
        assert ask(own, "/static/page.css")[0] == 200
        assert not any(one.done() for one in waiting)
        assert {fault(one.result())[1] for one in waiting} == {"dvc"}


def revision(name: str, accuracy: float, epochs: int) -> dict[str, Any]:
    values = {"accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.1, "n_clips": 9}
    data = {
        "timestamp": "2026-01-01T00:00:00",
        "params": {"params.yaml": {"data": {"train": {"epochs": epochs, "seed": 1}, "execution": {"workers": epochs}}}},
        "metrics": {"metrics/evaluate/metrics.json": {"data": values}},
    }
    return {"rev": name * 40, "name": None, "data": data, "experiments": None}


def test_experiments_are_trimmed_to_what_can_be_compared() -> None:
    tried = {"name": "longer", "revs": [revision("e", 0.8, 9) | {"name": "longer"}]}
    failed = {"name": "broken", "revs": [{"rev": "f" * 40, "name": "broken", "error": {"msg": "no", "type": "E"}}]}
    found = digest(
        [
            revision("w", 0.7, 3) | {"rev": "workspace"},
            revision("a", 0.7, 3) | {"name": "main", "experiments": [tried, failed]},
            revision("b", 0.7, 3),  # says nothing that `main` does not
            revision("c", 0.6, 3),
            {"rev": "d" * 40, "name": None, "data": {"metrics": {}}},
        ]
    )
    assert [row["name"] for row in found["rows"]] == ["working folder", "main", "longer", "broken", "ccccccc"]
    assert found["params"] == ["train.epochs"]
    assert found["rows"][2]["scores"] == {"accuracy": [0.8, pytest.approx(0.7), pytest.approx(0.9)]}
    assert found["rows"][2]["params"] == {"train.epochs": 9}
    assert found["rows"][3]["fault"] == "no"
