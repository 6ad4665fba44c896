"""Units as Dask tasks: any worker does any unit, and a killed worker's unit is done by another."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xpjax.catalogue.job import Job, Unit
from xpjax.catalogue.locks import write_json
from xpjax.catalogue.stages import process
from xpjax.core import engine
from xpjax.core.errors import XpjaxError, install
from xpjax.core.process import keep_memory


def do_unit(job: Job, unit: Unit) -> dict[str, Any]:
    """One unit on a worker, alone: as often as it is asked for, the outcome is the same."""
    (record,) = process(job, [unit], None, None)
    return record


def process_on_dask(
    job: Job, units: Sequence[Unit], address: str, progress: engine.Progress | None
) -> Generator[dict[str, Any]]:
    """Do units on Dask workers, as many at a time as keep them busy; a killed worker's unit is done by another."""
    if not units:
        return
    # Workers elsewhere have other working directories.
    files = [dataclasses.replace(unit.file, path=unit.file.path.absolute()) for unit in units]
    units = [dataclasses.replace(unit, file=file) for unit, file in zip(units, files, strict=True)]
    tasks = {unit.name: (job, unit) for unit in units}
    done = 0
    with connected(address) as client:
        for name, record, error in run_tasks(client, do_unit, tasks, job.digest):
            if error is not None:  # a worker that dies of this unit each time
                record = {"unit": name, "options": job.digest, "error": f"{type(error).__name__}: {error}"}
                with contextlib.suppress(OSError):
                    write_json(job.failure(name), record)
            done += len(tasks[name][1])
            if progress is not None:
                progress(done)
            yield record


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """A client of Dask workers: "local", a number of local ones, or the address of a scheduler. Raises XpjaxError."""
    try:
        from distributed import Client
    except ImportError:
        raise XpjaxError(f"Dask is not installed: {install('dask')}") from None

    with contextlib.ExitStack() as stack:
        # What Dask tells of its ordinary doings is kept from the terminal.
        for name, level in (("distributed", logging.WARNING), ("distributed.nanny", logging.ERROR)):
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(max(logger.level, level))
        target = address
        if address == "local" or address.isdecimal():
            target = stack.enter_context(_local_cluster(int(address) if address.isdecimal() else None))
        try:
            client = stack.enter_context(Client(target))
            client.wait_for_workers(1, timeout=60)
        except (ValueError, OSError) as error:
            raise XpjaxError(
                f"no Dask workers by {address!r} ({error}): give local, a number of local workers, or the address of a "
                "scheduler with workers, as in tcp://HOST:8786"
            ) from error
        yield client


def run_tasks(
    client: Any, function: Callable[..., Any], tasks: Mapping[str, tuple[Any, ...]], label: str
) -> Generator[tuple[str, Any, Exception | None]]:
    """Call a function with the arguments of each task: gives its name, what came back, and what it failed by.

    As many at a time are submitted as keep the workers busy, in the order of the tasks; a killed worker's task is done
    by another.
    """
    from distributed import as_completed

    waiting, running = iter(tasks), {}

    def submit(name: str) -> Any:
        future = client.submit(
            _on_worker, os.getpid(), function, *tasks[name], key=f"{label}-{name}-{time.time_ns()}", pure=False
        )
        running[future.key] = name
        return future

    ahead = max(2 * sum(client.nthreads().values()), 4)
    futures = as_completed([submit(name) for name in itertools.islice(waiting, ahead)])
    for future in futures:
        name = running.pop(future.key)
        try:
            found = future.result()
        except Exception as exc:
            yield name, None, exc
        else:
            yield name, found, None
        for following in itertools.islice(waiting, 1):
            futures.add(submit(following))


def _on_worker(caller: int, function: Callable[..., Any], *task: Any) -> Any:
    """Do a task; its process keeps memory, but where workers are threads of the process that calls."""
    if os.getpid() != caller:
        keep_memory(of_dask=True)
    return function(*task)


def _local_cluster(n: int | None = None) -> Any:
    """Workers on this machine, a process each: n, or one for each GPU, which it alone sees, or one for two cores."""
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = _gpus()
    environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    if n is not None:
        environments = [environments[k % len(gpus)] if gpus else {} for k in range(n)]
    environments = environments or [{} for _ in range(max((os.cpu_count() or 1) // 2, 2))]
    workers = {
        k: {"cls": Nanny, "options": {"nthreads": 1, "env": env, "memory_limit": 0, "silence_logs": logging.WARNING}}
        for k, env in enumerate(environments)
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "host": "127.0.0.1"}}
    return SpecCluster(workers=workers, scheduler=scheduler)


def _gpus() -> list[str]:
    """Names of the NVIDIA GPUs that this process may use, without starting JAX on them; none where JAX is for CPUs."""
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name != "-1"]
    found = Path("/proc/driver/nvidia/gpus")
    return [str(k) for k in range(len(list(found.iterdir())))] if found.is_dir() else []
