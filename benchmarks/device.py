"""Loops of the accelerator run on one device: what is timed, for how long, and what the device itself can do."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.harness import Limits, Row, best
from xpjax.core import engine


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is done: scale of all sizes, network by name, seconds of each loop, and when all must end."""

    scale: float
    network: str
    seconds: float
    end: float

    def size(self, whole: int, least: int = 1) -> int:
        return max(int(self.scale * whole), least)

    def left(self, share: float = 1.0) -> float:
        """Seconds that a loop may take: share of the usual, or what is left."""
        return max(min(share * self.seconds, self.end - time.perf_counter()), 0.0)


def repeat(step: Callable[[int], Any], n: int, seconds: float) -> tuple[int, float]:
    """How many of step(0), step(1), ... step(n - 1) were done before time was up, at least one, and in what time.

    Two are under way at a time, so that the device does not wait for Python and memory is not filled with results.
    """
    start = time.perf_counter()
    before = None
    for k in range(n):
        out = step(k)
        jax.block_until_ready(before)
        before = out
        if time.perf_counter() - start > seconds:
            break
    jax.block_until_ready(before)
    return k + 1, time.perf_counter() - start


def measured(case: str, n_each: int, n_all: int, step: Callable[[int], Any], seconds: float, **fields: Any) -> Row:
    """A row of calls that do n_each of n_all sources; the first call apart, for it compiles."""
    start = time.perf_counter()
    jax.block_until_ready(step(0))
    first = time.perf_counter() - start
    done, took = repeat(step, -(-n_all // n_each), seconds)
    row = Row(stage(), case, done * n_each, took, first, peak_memory(), **fields)
    row.ratios["s for all"] = n_all / row.rate
    row.ratios["part done"] = min(row.n / n_all, 1.0)
    # The call that compiles ends with one that does not.
    row.first_seconds = first - took / done + took
    return row


def stage() -> str:
    """What rows are called: promises of an accelerator are none of a CPU."""
    return "trial" if jax.devices()[0].platform == "cpu" else "accelerator"


def peak_memory() -> int:
    """The most bytes of the device that have been in use, where it tells."""
    return int((jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0))


def on_device(tree: Any) -> Any:
    """Constants where the engine has them."""
    return jax.device_put(engine.cast(tree, np.dtype(np.float32)), jax.devices()[0])


def a_batch(tree: Any) -> Any:
    """Sources in the device's memory, not bound to it, as those that the engine hands over: they share its programs."""
    return jax.device_put(engine.cast(tree, np.dtype(np.float32)))


def compiled(kernel: engine.Kernel) -> Callable[[Any, Any], Any]:
    """The engine's own batch function of a kernel."""
    function = engine._compiled(kernel, Mesh(np.array(jax.devices()[:1]), (engine.AXIS,)))

    def call(constants: Any, batch: Any) -> Any:
        with engine.precision(False):
            return function(constants, batch)

    return call


def device_limits(scale: float) -> tuple[Limits, dict[str, float]]:
    """A copy and a float32 product on the device; and products in float64 and as the backend likes, and transfers."""
    n_bytes = int(min(max(2**31 * scale, 2**22), 2**31))
    n = int(min(max(8192 * scale**0.25, 256), 8192))
    x = jnp.ones(n_bytes // 4, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    copy(x).block_until_ready()
    bytes_per_second = 2 * n_bytes / best(functools.partial(lambda a: copy(a).block_until_ready(), x), 10)
    del x
    found = {}
    for name, dtype, precision in (("float32", "f4", "highest"), ("default", "f4", "default"), ("float64", "f8", None)):
        with jax.enable_x64(dtype == "f8"):
            a = jnp.asarray(np.random.default_rng(0).normal(size=(n, n)).astype(dtype))
            product = jax.jit(functools.partial(jnp.matmul, precision=precision))
            product(a, a).block_until_ready()
            found[name] = 2.0 * n**3 / best(lambda p=product, a=a: p(a, a).block_until_ready(), 5)
    host = np.ones(n_bytes // 8, np.float32)
    there = jax.device_put(host)
    more = {
        "float32 product, default precision [TFLOP/s]": found["default"] / 1e12,
        "float64 product [TFLOP/s]": found["float64"] / 1e12,
        "to the device [GB/s]": host.nbytes / best(lambda: jax.device_put(host).block_until_ready(), 5) / 1e9,
        "to the host [GB/s]": host.nbytes / best(lambda: np.asarray(there + 1), 5) / 1e9,
    }
    return Limits(bytes_per_second, found["float32"]), more
