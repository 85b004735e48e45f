"""Where the work is done: in this process, in a few others on this machine, or on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from stages.pipeline.data_params import ExecutionParams
from stages.pipeline.errors import StorageError
from stages.pipeline.lock import guard_worker, interrupts_kept_from_children

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    execution: ExecutionParams,
    few: bool,
    check: Callable[[], str],
) -> Iterator[Result]:
    """Results of `function(task)` for all tasks, in the order in which they are ready.

    few : there is so little to do that starting processes would cost more.
    check : run on a cluster's worker before each task; says what is wrong with the worker, or nothing.

    Raises
    ------
    ParamsError, StorageError
        The cluster is not there, or was lost, or a worker of it is not fit; a process died.
    """
    if not tasks:
        return
    if execution.backend == "dask":
        from stages.pipeline.cluster import run_on_cluster

        yield from run_on_cluster(function, tasks, check, execution.scheduler_address)
        return
    if few or len(tasks) == 1 or execution.workers == 1:
        yield from map(function, tasks)
        return
    yield from in_processes(function, tasks, execution.workers, in_order=False)


def in_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, in_order: bool
) -> Iterator[Result]:
    """`map(function, tasks)` over processes of this machine that end with this one.

    workers : 0: one for each core.

    Raises
    ------
    StorageError
        A process died.
    """
    from concurrent.futures.process import BrokenProcessPool

    import joblib  # here: it costs a tenth of a stage's start

    workers = min(workers or joblib.cpu_count(), len(tasks))
    order = "generator" if in_order else "generator_unordered"
    try:
        with joblib.parallel_config("loky", n_jobs=workers, initializer=guard_worker, initargs=(os.getpid(),)):
            with interrupts_kept_from_children():
                results = joblib.Parallel(return_as=order)(joblib.delayed(function)(task) for task in tasks)
            yield from results
    except BrokenProcessPool as error:
        codes = re.search(r"\{[^{}]*\}", str(error))  # {SIGKILL(-9)}
        raise StorageError(
            f"a worker process died ({codes.group() if codes else 'no exit code'}): somebody killed it, or the system "
            "did for want of memory (fewer execution.workers need less), or a recording that its decoder cannot "
            "stand. Finished shards are kept; run `dvc repro` again"
        ) from None


def end_workers() -> None:
    """Kill the processes that worked for this one: what they made is on disk, and they have nothing left to do.

    Else this process would ask them to end and wait, for ever where one does not hear it.
    """
    for process in multiprocessing.active_children():
        if process.pid:  # loky's processes have no kill() of their own
            os.kill(process.pid, signal.SIGKILL)


def run_tasks_here(
    function: Callable[[Task], Result], tasks: Sequence[Task], execution: ExecutionParams, few: bool
) -> Iterator[Result]:
    """`run_tasks` on this machine, also where the data stages use a cluster: for work that is small beside the way."""
    here = execution.model_copy(update={"backend": "loky"})
    return run_tasks(function, tasks, here, few, check=str)  # str(): no worker to check, so nothing is wrong with it
