"""A real Dask scheduler and real workers, each a process on loopback: killed, stopped, in the wrong place, gone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Project, make_params
from test_reuse import counts
from test_runner import finished, wait_for

from stages.pipeline.errors import ParamsError

pytest.importorskip("distributed")


class Cluster:
    """A scheduler at an address of its own, and workers to be started in any folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._processes = folder, list[subprocess.Popen[str]]()
        # a worker that is stopped but not dead counts as lost after 3 s instead of 5 minutes
        self._environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "3s"}
        self.scheduler = self._start("scheduler", folder, "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.address = self._wait("scheduler", r"Scheduler at:\s+(tcp://\S+)")

    def _start(self, kind: str, folder: Path, *arguments: str, name: str = "scheduler") -> subprocess.Popen[str]:
        with (self._folder / f"{name}.log").open("w") as handle:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments],
                cwd=folder,
                env=self._environment,
                stdout=handle,
                stderr=handle,
                text=True,
            )
        self._processes.append(process)
        return process

    def _wait(self, name: str, pattern: str) -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if found := re.search(pattern, text := (self._folder / f"{name}.log").read_text()):
                return found[found.lastindex or 0]
            time.sleep(0.05)
        raise AssertionError(text)

    def worker(self, folder: Path, name: str) -> subprocess.Popen[str]:
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", name, "--local-directory")
        process = self._start("worker", folder, self.address, *options, str(self._folder), name=name)
        self._wait(name, "Registered to:")
        return process

    def close(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "cluster").mkdir()
    cluster = Cluster(tmp_path / "cluster")
    yield cluster
    cluster.close()


@pytest.fixture
def project(many_shards: Project) -> Project:
    return many_shards


def local(project: Project, tmp_path: Path, *stages: str) -> dict[str, str]:
    """What one process on this machine makes of the same dataset."""
    alone = Project(tmp_path / "alone", tmp_path / "corpus")
    alone.set(manifest={"clips_per_shard": 2}, execution={"workers": 1})
    alone.stage("manifest", *stages)
    return alone.bytes_of("data/decoded", "data/resampled")


def on(cluster: Cluster) -> dict[str, object]:
    return {"backend": "dask", "scheduler_address": cluster.address}


def finished_bytes(project: Project) -> dict[str, str]:
    """Without what a stopped worker is in the middle of."""
    return {name: value for name, value in project.bytes_of("data/.reuse/decode").items() if name.endswith(".h5")}


def test_killed_and_stopped_workers_cost_their_shards(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    workers = [cluster.worker(project.folder, f"w{i}") for i in range(3)]
    project.set(execution=on(cluster))
    run = project.start("python", "-m", "stages.decode")
    wait_for(lambda: len(finished(project)) >= 10, run)
    workers[0].kill()
    workers[1].send_signal(signal.SIGSTOP)  # lost to the scheduler, but not dead
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    ((made, taken),) = counts(output)
    assert (made, taken) == (256, 0)
    before = finished_bytes(project)
    workers[1].send_signal(signal.SIGCONT)  # it may finish its shard now, a second time
    project.stage("resample")
    assert finished_bytes(project) == before
    assert project.bytes_of("data/decoded", "data/resampled") == local(project, tmp_path, "decode", "resample")
    assert not list(project.folder.glob("data/decoded/.*"))


def test_scheduler_gone_in_the_middle(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    for i in range(2):
        cluster.worker(project.folder, f"w{i}")
    project.set(execution=on(cluster))
    run = project.start("python", "-m", "stages.decode")
    wait_for(lambda: len(finished(project)) >= 10, run)
    cluster.scheduler.kill()
    output, _ = run.communicate(timeout=40)
    assert run.returncode == 74, output
    assert f"connection to the Dask scheduler at {cluster.address} was lost" in output
    assert "Traceback" not in output
    assert len(finished(project)) >= 10
    assert not (project.folder / "data/decoded").exists()

    assert f"no Dask scheduler answers at execution.scheduler_address {cluster.address}" in project.stage(
        "decode", status=74
    )
    project.set(execution={"backend": "loky", "workers": 1})
    found = re.search(r"(\d+) found in the reuse store", project.stage("decode"))
    assert found
    assert int(found[1]) >= 10
    assert project.bytes_of("data/decoded") == local(project, tmp_path, "decode")


def test_worker_that_is_not_fit_is_refused(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    project.set(execution=on(cluster))

    other = tmp_path / "other"  # the same code in another folder
    shutil.copytree(project.folder, other)
    worker = cluster.worker(other, "elsewhere")
    output = project.stage("decode", status=74)
    assert f"is not fit: it runs in {other} and does not see" in output
    worker.kill()
    worker.wait()

    worker = cluster.worker(tmp_path, "nowhere")
    output = project.stage("decode", status=74)
    assert "cannot import the project" in output
    worker.kill()
    worker.wait()

    worker = cluster.worker(project.folder, "old")
    project.stage("decode")
    with (project.folder / "stages/decode.py").open("a") as handle:  # the worker still has the old one in memory
        handle.write("# changed\n")
    output = project.stage("decode", status=74)
    assert "is not fit: it has other code or packages (stages.decode: " in output
    assert "update and restart it" in output


def test_without_the_package(project: Project) -> None:
    project.set(execution={"backend": "dask", "scheduler_address": "tcp://127.0.0.1:1"})
    (project.folder / "distributed.py").write_text("raise ImportError('not installed')\n")
    assert "needs the package distributed" in project.stage("decode", status=2)


@pytest.mark.parametrize("address", ["", "127.0.0.1:8786", "http://127.0.0.1:8786", "tcp://host", "tcp://host:port"])
def test_address_is_checked(address: str) -> None:
    with pytest.raises(ParamsError, match="backend: dask needs scheduler_address: expected tcp://host:port"):
        make_params(execution={"backend": "dask", "scheduler_address": address})


@pytest.mark.parametrize("address", ["tcp://10.0.0.5:8786", "tcp://scheduler:8786", "tcp://127.0.0.1.example.org:1"])
def test_another_machine_without_tls_must_be_allowed(address: str) -> None:
    with pytest.raises(ParamsError, match="expected tls://, or trusted_network: true"):
        make_params(execution={"backend": "dask", "scheduler_address": address})
    make_params(execution={"backend": "dask", "scheduler_address": address, "trusted_network": True})


def test_tls_is_refused_before_anything_connects(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.set(execution={"backend": "dask", "scheduler_address": "tls://127.0.0.1:1"})
    assert "no certificates are set up" in project.stage("decode", status=2)
    names = [f"DASK_DISTRIBUTED__COMM__TLS__{name}" for name in ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY")]
    for name in names:
        monkeypatch.setenv(name, "gone.pem")
    assert "cannot be used" in project.stage("decode", status=2)
    for name in names:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION", "True")
    project.set(execution={"scheduler_address": "tcp://127.0.0.1:1"})
    assert "expected tls://" in project.stage("decode", status=2)
