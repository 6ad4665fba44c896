"""One way to measure: compile and run apart, peak memory, error against a reference, limits of this machine.

A stage module defines `run(quick) -> list[Row]`. Times are the best of several runs; a ratio always compares two
figures of the same run. Peak memory is the largest resident set of the process, inputs included, while a case runs.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import os
import platform
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass
class Row:
    """One measurement: what ran, how fast, what it needed, how exact it was, and against what."""

    stage: str
    case: str
    n: int
    seconds: float
    first_seconds: float = float("nan")
    """The first call, with tracing and compiling."""
    peak_bytes: int = 0
    bytes_per_source: int = 0
    """Bytes read and written per source, by the arrays that go in and out."""
    error: float = float("nan")
    error_of: str = ""
    ratios: dict[str, float] = dataclasses.field(default_factory=dict)
    note: str = ""

    @property
    def rate(self) -> float:
        """Sources per second."""
        return self.n / self.seconds

    @property
    def bandwidth(self) -> float:
        """Bytes read and written per second."""
        return self.rate * self.bytes_per_source


class PeakMemory:
    """The largest resident set of the process within the block, inputs included, sampled every 2 ms."""

    def __enter__(self) -> PeakMemory:
        import psutil

        gc.collect()
        self._process = psutil.Process()
        self.bytes = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.bytes = max(self.bytes, self._process.memory_info().rss)

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self.bytes = max(self.bytes, self._process.memory_info().rss)


def best(function: Callable[[], Any], repeats: int = 5) -> float:
    """Seconds of the fastest of several calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(stage: str, case: str, n: int, function: Callable[[], Any], repeats: int = 5, **fields: Any) -> Row:
    """Time a case: the first call apart, memory once, then the best of several."""
    start = time.perf_counter()
    function()
    first = time.perf_counter() - start
    with PeakMemory() as memory:
        function()
    return Row(stage, case, n, best(function, repeats), first, memory.bytes, **fields)


def copy_limit(n_bytes: int = 2**29, threads: int | None = None, repeats: int = 7) -> float:
    """Bytes read and written per second by `numpy.copyto` of float32 between two touched arrays, one slice a thread."""
    threads = threads or os.cpu_count() or 1
    source, target = np.ones(n_bytes // 4, np.float32), np.zeros(n_bytes // 4, np.float32)
    edges = np.linspace(0, len(source), threads + 1, dtype=int)
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    with ThreadPoolExecutor(threads) as pool:
        return 2 * n_bytes / best(lambda: list(pool.map(lambda s: np.copyto(target[s], source[s]), parts)), repeats)


def product_limit(n_in: int, n_out: int, n_rows: int = 16384, repeats: int = 30) -> float:
    """Rows per second of a bare float32 matrix product (n_rows, n_in) @ (n_in, n_out), operands on the device."""
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.normal(size=(n_rows, n_in)).astype(np.float32))
    b = jnp.asarray(rng.normal(size=(n_in, n_out)).astype(np.float32))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))
    jax.block_until_ready(product(a, b))

    def call() -> None:
        for _ in range(repeats):
            out = product(a, b)
        jax.block_until_ready(out)

    return n_rows * repeats / best(call)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import jax
    import jaxlib

    import xpjax

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    device = jax.devices()[0]
    return {
        "device": device.device_kind if device.platform != "cpu" else model,
        "platform": device.platform,
        "n_devices": len(jax.devices()),
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "xpjax": xpjax.__version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpy": np.__version__,
    }


def table(rows: list[Row]) -> str:
    """The rows as a text table."""
    lines = [f"{'stage':12s} {'case':44s} {'sources/s':>12s} {'first s':>8s} {'peak MB':>8s} {'error':>9s}  ratios"]
    for row in rows:
        ratios = ", ".join(f"{name} {value:.3g}" for name, value in row.ratios.items())
        lines.append(
            f"{row.stage:12s} {row.case:44s} {row.rate:12.4g} {row.first_seconds:8.2f} "
            f"{row.peak_bytes / 1e6:8.0f} {row.error:9.1e}  {ratios}"
        )
    return "\n".join(lines)


def save(rows: list[Row], name: str) -> Path:
    """The rows and the machine as results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    body = {
        "machine": machine(),
        "rows": [
            {
                key: None if value != value else value  # NaN is not JSON
                for key, value in {
                    **dataclasses.asdict(row),
                    "sources_per_second": row.rate,
                    "bytes_per_second": row.bandwidth,
                }.items()
            }
            for row in rows
        ],
    }
    path.write_text(json.dumps(body, indent=1) + "\n")
    return path
