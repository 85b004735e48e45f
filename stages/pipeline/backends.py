"""Where the work is done: in this process, in a few others on this machine, or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from stages.pipeline.lock import guard_worker
from stages.pipeline.params import ExecutionParams

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
        The cluster is not there, or was lost, or a worker of it is not fit.
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
    import joblib  # here: it costs a tenth of a stage's start

    workers = min(execution.workers or joblib.cpu_count(), len(tasks))
    with joblib.parallel_config("loky", n_jobs=workers, initializer=guard_worker, initargs=(os.getpid(),)):
        yield from joblib.Parallel(return_as="generator_unordered")(joblib.delayed(function)(task) for task in tasks)


def run_tasks_here(
    function: Callable[[Task], Result], tasks: Sequence[Task], execution: ExecutionParams, few: bool
) -> Iterator[Result]:
    """`run_tasks` on this machine, also where the data stages use a cluster: for work that is small beside the way."""
    here = execution.model_copy(update={"backend": "loky"})
    return run_tasks(function, tasks, here, few, check=str)  # str(): no worker to check, so nothing is wrong with it
