"""Units as Dask tasks."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.catalogue.helpers import check, expected
from xpjax.catalogue.run import run_catalogue
from xpjax.xp.sources import SourceTable


@pytest.mark.slow
def test_a_killed_dask_workers_units_are_done_by_others(store: Path, sources: SourceTable, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    output = tmp_path / "out"
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = list(client.run(os.getpid).values())

        def kill() -> None:
            while not list(output.glob("_xpjax/units/*.json")):
                time.sleep(0.02)
            os.kill(workers[0], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        report = run_catalogue(store, output, "JPLUS", errors=False, dask=cluster.scheduler_address)
        killer.join()
    assert report.complete
    assert not report.failed
    check(output, expected(sources, errors=False))
