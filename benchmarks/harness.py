"""One way to measure: compile and run apart, peak memory, error against a reference, limits of this machine.

A stage module defines `run(quick) -> list[Row]`. Times are the best of several runs; a ratio always compares two
figures of the same run. Peak memory is the largest resident set of the process, inputs included, while a case runs.
Rows are also set against two limits of the machine, measured in the same run: bytes against a copy, operations against
a matrix product.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import gc
import itertools
import json
import multiprocessing
import os
import platform
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from xpjax.xp import SourceTable

T = TypeVar("T")

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[2] / "shared" / "data"
"""Real data, beside the project; what needs them is skipped where they are absent, and a row says so."""
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
    """Additions and multiplications per source of its matrix products; see `product_flops`."""
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
    """Seconds of the fastest of several calls; of none, infinity."""
    times = [float("inf")]
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def compacted(table: SourceTable) -> SourceTable:
    """The sources with compact covariances instead of correlations."""
    return dataclasses.replace(table, coefficients=table.coefficients.compact())


def beside_correlations(row: Row, compact: Callable[[], Any], full: Callable[[], Any], repeats: int = 5) -> None:
    """Note the processor time of what is computed from compact covariances, and its ratio to that from correlations.

    In turn, the best of each: other work on the machine takes wall time, but no processor time.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, spent in zip((compact, full), times, strict=True):
            start = time.process_time()
            function()
            spent.append(time.process_time() - start)
    own, other = map(min, times)
    row.ratios["processor time of correlations"] = other / own
    row.note += f"{1e6 * own / row.n:.2f} us of processor time a source, {1e6 * other / row.n:.2f} from correlations"


def measure(stage: str, case: str, n: int, function: Callable[[], Any], repeats: int = 5, **fields: Any) -> Row:
    """Time a case: the first call apart, memory in the second, and the best of that one and of `repeats` more."""
    first = best(function, 1)
    with PeakMemory() as memory:
        watched = best(function, 1)
    return Row(stage, case, n, min(watched, best(function, repeats)), first, memory.bytes, **fields)


def alone(function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """function(*arguments) in a fresh process: its memory is its own, whatever was done before it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **options).result()


def absent(stage: str, what: str, reason: str) -> Row:
    """A row that says what was not measured, and why."""
    return Row(stage, f"{what}: not measured", 0, float("nan"), note=reason)


def product_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Additions and multiplications in the matrix products that JAX traces of function(*arguments), in float32.

    Loops count as often as they run, loops that end by a condition once.
    """
    import jax

    from xpjax.core import engine

    with engine.precision(False):
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), engine._type(x, np.dtype("f4"))), arguments)
        return _product_flops(jax.make_jaxpr(function)(*shapes).jaxpr)


def _product_flops(jaxpr: Any) -> float:
    from jax.extend.core import jaxprs_in_params

    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (over, _), _ = equation.params["dimension_numbers"]
            summed = np.prod([equation.invars[0].aval.shape[k] for k in over], dtype=float)
            total += 2 * summed * equation.outvars[0].aval.size
        inner = sum(_product_flops(part) for part in jaxprs_in_params(equation.params))
        total += inner * equation.params.get("length", 1)
    return total


@functools.cache
def copy_limit(n_bytes: int = 2**29, threads: int | None = None, repeats: int = 7) -> float:
    """Bytes read and written per second by `numpy.copyto` of float32 between two touched arrays, one slice a thread."""
    threads = threads or os.cpu_count() or 1
    source, target = np.ones(n_bytes // 4, np.float32), np.zeros(n_bytes // 4, np.float32)
    edges = np.linspace(0, len(source), threads + 1, dtype=int)
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    with ThreadPoolExecutor(threads) as pool:
        return 2 * n_bytes / best(lambda: list(pool.map(lambda s: np.copyto(target[s], source[s]), parts)), repeats)


def product_limit(n_in: int, n_out: int, n_rows: int = 16384, repeats: int = 10) -> float:
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
    """The rows as a text table, stage by stage; copy and product: shares of the limits."""
    width = max(len(row.case) for row in rows)
    lines = [
        f"{'stage':11s} {'case':{width}s} {'n':>10s} {'n/s':>9s} {'compile s':>9s} {'peak MB':>8s} {'GB/s':>6s} "
        f"{'copy':>5s} {'GFLOP/s':>8s} {'product':>7s} {'error':>8s}  of what, ratios"
    ]
    for stage in dict.fromkeys(row.stage for row in rows):
        lines += [_line(row, limit, width) for row in rows if row.stage == stage]
    return "\n".join(lines)


def report(rows: list[Row], path: Path, limit: Limits) -> str:
    """Leave the rows in a JSON file, with a figure of rates; the table, the limits and where the results are."""
    save(rows, path, limits=limit)
    drawn = figure(rows, limit, path.with_suffix(".png"))
    found = f"limits: copy {limit.bytes_per_second / 1e9:.1f} GB/s, product {limit.flops / 1e9:.0f} GFLOP/s"
    return f"{table(rows, limit)}\n\n{found}\n{path}" + (f", {drawn}" if drawn else "")


def _line(row: Row, limit: Limits, width: int) -> str:
    def figure(value: float, form: str, known: bool) -> str:
        return format(value, form) if known else format("", form.split(".")[0])

    moved, worked = row.bytes_per_source > 0, row.flops_per_source > 0
    return " ".join(
        [
            f"{row.stage:11s} {row.case:{width}s} {row.n:10,d}",
            figure(row.rate, "9.3g", row.n > 0 and row.seconds == row.seconds),
            figure(row.compile_seconds, "9.2f", row.first_seconds == row.first_seconds),
            figure(row.peak_bytes / 1e6, "8.0f", row.peak_bytes > 0),
            figure(row.bandwidth / 1e9, "6.2f", moved),
            figure(row.bandwidth / limit.bytes_per_second, "5.2f", moved),
            figure(row.flops / 1e9, "8.3g", worked),
            figure(row.flops / limit.flops, "7.2f", worked),
            figure(row.error, "8.1e", row.error == row.error),
            " " + "; ".join(filter(None, (row.error_of, _listed(row.ratios), row.note if not row.n else ""))),
        ]
    ).rstrip()


def _listed(ratios: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in ratios.items())


def stored(platform: str, but: str = "") -> list[Row]:
    """Rows of earlier full runs on this platform or with the accelerator script: of each case those of the latest file.

    Quick runs, and the results named `but`, do not count.
    """
    return [row for row, _ in stored_with_source(platform, but)]


def stored_with_source(platform: str, but: str = "") -> list[tuple[Row, str]]:
    """The rows of `stored`, each with the file that it is from and the machine that it was measured on."""
    files = [path for path in sorted(RESULTS.glob("*.json")) if path.stem != but and "quick" not in path.stem]
    mine = [path for path in files if path.stem.split("_")[0] == platform or path.stem.endswith("_accelerator")]
    bodies = [(json.loads(path.read_text()), path.name) for path in mine]
    latest = {}
    for body, name in sorted(bodies, key=lambda pair: pair[0].get("date", "")):
        machine = body.get("machine", {})
        told = f"{name}: {machine.get('device', 'unknown machine')}, {machine.get('cores', '?')} cores"
        for row in map(_row, body.get("rows", [])):
            latest[row.stage, row.case] = row, told
    return list(latest.values())


def _row(record: dict[str, Any]) -> Row:
    names = {field.name for field in dataclasses.fields(Row)}
    known = {key: value for key, value in record.items() if key in names and value is not None}
    known["ratios"] = {key: value for key, value in known["ratios"].items() if value is not None}
    return Row(**{"seconds": float("nan"), **known})


def save(rows: list[Row], path: Path, *, limits: Limits, **more: Any) -> Path:
    """The rows, the machine, its limits, the time and more as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    head = {"date": now, "machine": machine(), "limits": dataclasses.asdict(limits)}
    body = {**head, **more, "rows": [_record(row) for row in rows]}
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


def figure(rows: list[Row], limit: Limits, path: Path) -> Path | None:
    """Rates of every stage beside its peers, shares of the machine's limits, and how rates scale, as PNG.

    None where no row has a rate to be drawn.
    """
    from matplotlib.figure import Figure

    timed = [row for row in rows if row.n > 0 and row.seconds > 0 and row.rate > 1 and row.stage != "scaling"]
    shown = [r for r in timed if r.first_seconds == r.first_seconds or r.bytes_per_source or r.is_peer]
    scaled = [row for row in rows if row.stage == "scaling" and not row.is_peer]
    if not shown and not scaled:
        return None
    sheet = Figure(figsize=(15, max(0.17 * len(shown), 9)), layout="constrained")
    left, *right = np.atleast_1d(sheet.subplots(1, 2, width_ratios=[1.2, 1]) if scaled else sheet.subplots())
    colors = {stage: f"C{k % 7}" for k, stage in enumerate(dict.fromkeys(row.stage for row in shown))}  # C7 is gray
    place = np.arange(len(shown))[::-1]
    left.barh(place, [row.rate for row in shown], color=["0.7" if row.is_peer else colors[row.stage] for row in shown])
    left.set_yticks(place, [f"{row.stage}: {row.case}" for row in shown], fontsize=6)
    left.set(xscale="log", xlabel="per second (sources, stars, exposures, observations); gray: other packages")
    left.margins(y=0.005)
    if scaled:
        _scales(right[0], scaled, limit)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=110)
    return path


def _scales(right: Any, scaled: list[Row], limit: Limits) -> None:
    """How rates and shares of the machine's limits go with the number of sources."""
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
    title = f"share of a copy ({limit.bytes_per_second / 1e9:.1f} GB/s), dashed: of a product"
    lower.set(xscale="log", yscale="log", xlabel="sources", ylabel="share", title=title)
    for k, case in enumerate(cases):
        mine = [row for row in scaled if row.case == case]
        lower.plot([row.n for row in mine], [row.flops / limit.flops for row in mine], "--", color=f"C{k}")
    upper.legend(fontsize=8)
