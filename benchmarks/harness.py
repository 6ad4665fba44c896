"""One way to measure: compile and run apart, peak memory, error against a reference, limits of this machine.

A stage module defines `run(quick) -> list[Row]`. Times are the best of several runs; a ratio always compares two
figures of the same run. Peak memory is the largest resident set of the process, inputs included, while a case runs.
Rows are also set against two limits of the machine, measured in the same run: bytes against a copy, operations against
a matrix product.
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
PEERS = ("gaiaxpy", "stdpipe", "numpy", "scipy", "pandas", "astropy", "pyarrow", "pytorch", "statsmodels", "igzip")
"""Whose cases begin with one of these is not xpjax."""


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
    flops_per_source: float = 0.0
    """Additions and multiplications per source that its matrix products need."""
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

    @property
    def flops(self) -> float:
        """Operations per second."""
        return self.rate * self.flops_per_source

    @property
    def compile_seconds(self) -> float:
        """What the first call took beyond a later one."""
        return max(self.first_seconds - self.seconds, 0.0) if self.first_seconds == self.first_seconds else np.nan

    @property
    def is_peer(self) -> bool:
        """Whether another package did it."""
        return self.case.lower().startswith(PEERS)


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


@dataclasses.dataclass(frozen=True)
class Limits:
    """What this machine can do: bytes read and written per second by a copy, operations per second by a product."""

    bytes_per_second: float
    flops: float


def limits(n: int = 2048, repeats: int = 5) -> Limits:
    """The copy of `copy_limit`, and a float32 product of two (n, n) matrices, operands in the device's memory."""
    return Limits(copy_limit(repeats=repeats), 2.0 * n * n * product_limit(n, n, n, repeats))


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


def table(rows: list[Row], limit: Limits) -> str:
    """The rows as a text table, stage by stage, peers beneath what they are set against."""
    lines = [
        f"{'stage':11s} {'case':52s} {'n':>10s} {'n/s':>9s} {'compile s':>9s} {'peak MB':>8s} {'GB/s':>6s} "
        f"{'copy':>5s} {'GFLOP/s':>8s} {'product':>7s} {'error':>8s}  ratios"
    ]
    for stage in dict.fromkeys(row.stage for row in rows):
        lines += [_line(row, limit) for row in rows if row.stage == stage]
    return "\n".join(lines)


def _line(row: Row, limit: Limits) -> str:
    def figure(value: float, form: str, known: bool) -> str:
        return format(value, form) if known else format("", form.split(".")[0])

    moved, worked = row.bytes_per_source > 0, row.flops_per_source > 0
    return " ".join(
        [
            f"{row.stage:11s} {row.case:52s} {row.n:10,d}",
            figure(row.rate, "9.3g", row.n > 0 and row.seconds == row.seconds),
            figure(row.compile_seconds, "9.2f", row.first_seconds == row.first_seconds),
            figure(row.peak_bytes / 1e6, "8.0f", row.peak_bytes > 0),
            figure(row.bandwidth / 1e9, "6.2f", moved),
            figure(row.bandwidth / limit.bytes_per_second, "5.2f", moved),
            figure(row.flops / 1e9, "8.3g", worked),
            figure(row.flops / limit.flops, "7.2f", worked),
            figure(row.error, "8.1e", row.error == row.error),
            " " + ", ".join(f"{name} {value:.3g}" for name, value in row.ratios.items()),
        ]
    ).rstrip()


def stored(pattern: str, but: Path) -> list[Row]:
    """Rows of the result files of earlier full runs, latest last; not of quick ones, nor of one file."""
    rows = []
    for path in sorted(RESULTS.glob(pattern), key=lambda p: p.stat().st_mtime):
        if path == but or "quick" in path.stem:
            continue
        names = {field.name for field in dataclasses.fields(Row)}
        for body in json.loads(path.read_text()).get("rows", []):
            known = {key: value for key, value in body.items() if key in names and value is not None}
            known["ratios"] = {key: value for key, value in known["ratios"].items() if value is not None}
            rows.append(Row(**{"seconds": float("nan"), **known}))
    return rows


def save(rows: list[Row], path: Path, *, limits: Limits, **more: Any) -> Path:
    """The rows, the machine, its limits and more as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {"machine": machine(), "limits": dataclasses.asdict(limits), **more, "rows": [_record(row) for row in rows]}
    path.write_text(json.dumps(body, indent=1) + "\n")
    return path


def _record(row: Row) -> dict[str, Any]:
    body = {**dataclasses.asdict(row), "sources_per_second": row.rate, "bytes_per_second": row.bandwidth}
    body |= {"flops": row.flops, "compile_seconds": row.compile_seconds}
    body["ratios"] = {name: _number(value) for name, value in row.ratios.items()}
    return {key: _number(value) for key, value in body.items()}


def _number(value: Any) -> Any:
    """None for what JSON has no word for."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def figure(rows: list[Row], limit: Limits, path: Path) -> Path:
    """Rates of every stage beside its peers, shares of the machine's limits, and how rates scale, as PNG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["text.usetex"] = False  # GaiaXPy, once imported, wants LaTeX
    timed = [row for row in rows if row.n > 0 and row.seconds > 0 and row.rate > 1 and row.stage != "scaling"]
    shown = [r for r in timed if r.first_seconds == r.first_seconds or r.bytes_per_source or r.is_peer]
    scaled = [row for row in rows if row.stage == "scaling" and not row.is_peer]
    sheet = Figure(figsize=(15, max(0.17 * len(shown), 9)), layout="constrained")
    left, right = sheet.subplots(1, 2, width_ratios=[1.2, 1])
    colors = {stage: f"C{k % 10}" for k, stage in enumerate(dict.fromkeys(row.stage for row in shown))}
    place = np.arange(len(shown))[::-1]
    left.barh(place, [row.rate for row in shown], color=["0.7" if row.is_peer else colors[row.stage] for row in shown])
    left.set_yticks(place, [f"{row.stage}: {row.case}" for row in shown], fontsize=6)
    left.set(xscale="log", xlabel="per second (sources, stars, exposures, observations); gray: other packages")
    left.margins(y=0.005)
    right.axis("off")
    upper, lower = right.inset_axes([0.1, 0.55, 0.88, 0.42]), right.inset_axes([0.1, 0.03, 0.88, 0.42])
    cases = dict.fromkeys(row.case for row in scaled)
    for case in cases:
        mine = [row for row in scaled if row.case == case]
        upper.plot([row.n for row in mine], [row.rate for row in mine], "o-", label=case)
        lower.plot([row.n for row in mine], [row.bandwidth / limit.bytes_per_second for row in mine], "o-", label=case)
    upper.set(
        xscale="log", yscale="log", xlabel="sources", ylabel="sources per second", title="from host to host memory"
    )
    title = f"of a copy's bytes ({limit.bytes_per_second / 1e9:.1f} GB/s), dashed: of a product's operations"
    lower.set(xscale="log", yscale="log", xlabel="sources", ylabel="share", title=title)
    for k, case in enumerate(cases):
        mine = [row for row in scaled if row.case == case]
        lower.plot([row.n for row in mine], [row.flops / limit.flops for row in mine], "--", color=f"C{k}")
    if cases:
        upper.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=110)
    return path
