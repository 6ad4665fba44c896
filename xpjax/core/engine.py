"""The only place that batches: one-source kernels in, padded, chunked, sharded and streamed jobs out.

A kernel is a pure function `kernel(constants, source) -> result` of one source; `constants` and `source` are pytrees.
`run` maps it over the leading axis of host arrays. It knows no astronomy.

- Rows go to the devices in batches of equal size, the last one padded: one compile for a job of any length, and row
  counts are rounded so that jobs of similar lengths share it.
- Batches are sized in bytes, input, output and intermediates together: to stay in the cache on a CPU, where every pass
  over memory costs as much as the arithmetic, and to amortise transfers on an accelerator.
- A few threads each carry a batch there and back, so that one is copied while another computes.
- Several devices share a batch by rows (`jax.shard_map`); kernels never see each other's rows, so results do not
  depend on their number.
- Kernels are traced under `default_matmul_precision("highest")`, so that no product, of any library, drops to TF32.
- `float64=True` computes in float64 in a scope of its own; the global setting is not touched.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xpjax.core.errors import XpjaxError

T = TypeVar("T")
Kernel = Callable[[Any, Any], Any]
Progress = Callable[[int], object]

# Measured on two-core x86: the best of 1/8..8 times this size, flat within 20 % around it.
CPU_BATCH_BYTES = 24 * 2**20
ACCELERATOR_BATCH_BYTES = 2**29
WORKERS = 4  # batches in flight: best of 1..8 on two cores, and enough to hide transfers to an accelerator
ROW_MULTIPLE = 64  # keeps row slices of float32 and float64 arrays aligned, which a CPU device reads without a copy
LEAST_ROWS = 256  # of spectra and magnitudes: products of fewer are computed, and so rounded, otherwise on some CPUs
AXIS = "source"


Devices: TypeAlias = str | int | jax.Device | Sequence[jax.Device] | None
"""The devices to compute on, as `find_devices` takes them."""


def find_devices(spec: Devices = None) -> tuple[jax.Device, ...]:
    """The devices to compute on: None (JAX's first), a platform ("gpu": all of its), "gpu:2", how many, or a list.

    Raises ValueError where the machine has no such devices.
    """
    if spec is None:
        return (jax.devices()[0],)
    if isinstance(spec, str) and not spec.isdigit():
        platform, _, count = spec.partition(":")
        try:
            found = tuple(jax.devices(platform))
        except RuntimeError as error:
            have = sorted({d.platform for d in jax.devices()})
            raise XpjaxError(f"no {platform!r} device on this machine; JAX sees {have}") from error
        if count and not count.isdigit():
            raise XpjaxError(f"devices {spec!r}: expected a number after the colon, as in {platform}:2")
        return _take(found, int(count)) if count else found
    if isinstance(spec, (str, int)):
        return _take(tuple(jax.devices()), int(spec))
    chosen = tuple(spec) if isinstance(spec, list | tuple) else (spec,)
    if not chosen or not all(isinstance(device, jax.Device) for device in chosen):
        raise XpjaxError(f"devices must be a platform, a number or JAX devices, not {spec!r}")
    return chosen


def _take(found: tuple[jax.Device, ...], count: int) -> tuple[jax.Device, ...]:
    if not 1 <= count <= len(found):
        raise XpjaxError(f"{count} devices asked for, JAX sees {len(found)} of {found[0].platform!r}")
    return found[:count]


@contextlib.contextmanager
def precision(float64: bool) -> Iterator[np.dtype]:
    """Enter a scope in which JAX computes in float64 or float32, without touching the global setting.

    Products of matrices have full precision in it. A scope is of one thread: enter it again in each.

    Parameters
    ----------
    float64 : bool
        Whether to compute in float64.

    Returns
    -------
    context manager
        For `with`; it gives the type of floating-point numbers in the scope, a numpy.dtype.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> with xpjax.precision(float64=True) as dtype:
    ...     jnp.ones(2).dtype == dtype
    True
    """
    with jax.enable_x64(float64), jax.default_matmul_precision("highest"):
        yield np.dtype(np.float64 if float64 else np.float32)


@functools.lru_cache(maxsize=256)
def _traced(kernel: Kernel) -> Callable[[Any, Any], Any]:
    """The kernel as JAX has traced it, which is done once: to know the shapes of its result, and to map it."""
    return jax.jit(kernel, inline=True)


@functools.lru_cache(maxsize=256)
def _compiled(kernel: Kernel, mesh: Mesh) -> Callable[[Any, Any], Any]:
    """The jitted batch function of a kernel; cached, so that a second job with the same shapes compiles nothing."""
    batched = jax.vmap(_traced(kernel), in_axes=(None, 0))
    if mesh.size == 1:
        return jax.jit(batched)
    rows = PartitionSpec(AXIS)
    return jax.jit(jax.shard_map(batched, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows, check_vma=False))


@functools.lru_cache(maxsize=256)
def over_axes(kernel: Kernel, n_axis: int) -> Callable[[Any, Any], Any]:
    """The kernel mapped over n leading axes of the sources, as a function for JAX's own transformations.

    Axes stay apart, so that arrays that are shared by several devices stay where they are.
    """
    mapped = _traced(kernel)
    for _ in range(n_axis):
        mapped = jax.vmap(mapped, in_axes=(None, 0))
    return jax.jit(mapped)


def is_traced(tree: Any) -> bool:
    """Whether JAX traces anything in a tree: within jit, grad or vmap arrays have no values yet."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def check_values(tree: Any, remedy: str) -> None:
    """Raise XpjaxError where JAX traces anything in a tree that is to be computed with on the host."""
    if is_traced(tree):
        raise XpjaxError(
            "traced arrays, of jax.jit, grad or vmap, have no values yet, and this function works on the host, with "
            f"files, batches and status; within JAX's transformations use {remedy}, on arrays alone"
        )


def _round_rows(n: int, multiple: int) -> int:
    """`n` rounded up to k 2^m multiples with k = 4..7, so that few row counts are ever compiled, at most 25 % more."""
    units = -(-n // multiple)
    step = 1 << max(units.bit_length() - 3, 0)
    return -(-units // step) * step * multiple


def rows_of_batch(n: int, row_bytes: int, devices: Devices = None) -> int:
    """Rows of a batch for n sources of this size, intermediates counted in: for jobs that run a kernel twice."""
    chosen = find_devices(devices)
    multiple = ROW_MULTIPLE * len(chosen)
    cap = CPU_BATCH_BYTES if chosen[0].platform == "cpu" else ACCELERATOR_BATCH_BYTES
    rows = max(cap * len(chosen) // row_bytes // multiple, 1) * multiple
    return rows if n >= rows else _round_rows(max(n, 1), multiple)


def run(
    kernel: Kernel,
    constants: Any,
    sources: Any,
    *,
    float64: bool = False,
    devices: Devices = None,
    work_bytes: int = 0,
    batch_rows: int | None = None,
    least_rows: int = 1,
    progress: Progress | None = None,
) -> Any:
    """Map a one-source kernel over the rows of host arrays; returns a pytree of NumPy arrays with a leading axis.

    kernel(constants, source) -> pytree of arrays. constants: pytree of arrays, cast and sent once. sources: pytree of
    arrays with n rows each (floats are cast to the scope's precision, batch by batch). work_bytes: size of the
    intermediates of one source, beyond input and output. devices: see `find_devices`. batch_rows: rows of a batch, by
    default as many as fit the device's share of bytes, for at least least_rows sources; results do not depend on it.
    progress is called with the number of rows finished.
    """
    chosen = find_devices(devices)
    leaves = jax.tree.leaves(sources)
    n = leaves[0].shape[0]
    with precision(float64) as dtype:
        constants = cast(constants, dtype)
        shapes = jax.eval_shape(
            _traced(kernel),
            constants,
            jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], _type(x, dtype)), sources),
        )
        out_leaves, treedef = jax.tree.flatten(shapes)
        result = [np.empty((n, *x.shape), x.dtype) for x in out_leaves]
        row = sum(int(np.prod(x.shape[1:])) * _type(x, dtype).itemsize for x in leaves)
        row += sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in out_leaves)
        if batch_rows is None:
            batch_rows = rows_of_batch(max(n, least_rows), row + work_bytes, chosen)
        batch_rows = -(-batch_rows // len(chosen)) * len(chosen)
        mesh = Mesh(np.array(chosen), (AXIS,))
        by_rows = NamedSharding(mesh, PartitionSpec(AXIS))
        function = _compiled(kernel, mesh)
        # Committed to the device here: what is computed with them goes there too.
        constants = jax.device_put(constants, chosen[0] if mesh.size == 1 else NamedSharding(mesh, PartitionSpec()))

        def work(start: int) -> int:
            """One batch, there and back: rows [start, stop) of the sources to the same rows of the result."""
            stop = min(start + batch_rows, n)
            with precision(float64):
                part = jax.tree.map(lambda x: _pad(_as(x[start:stop], dtype), batch_rows), sources)
                out = function(constants, part if mesh.size == 1 else jax.device_put(part, by_rows))
                for target, leaf in zip(result, jax.tree.leaves(out), strict=True):
                    target[start:stop] = np.asarray(leaf)[: stop - start]
            return stop - start

        done = 0
        for rows in _in_threads(work, range(0, n, batch_rows)):
            done += rows
            if progress is not None:
                progress(done)
    return jax.tree.unflatten(treedef, result)


def _in_threads(work: Callable[[int], int], starts: Sequence[int]) -> Iterator[int]:
    """work(start) for each start, a few at a time: one batch is copied while another computes. In order.

    The first goes alone, because it compiles.
    """
    if not starts:
        return
    yield work(starts[0])
    if len(starts) > 1:
        with ThreadPoolExecutor(WORKERS) as pool:
            try:
                yield from pool.map(work, starts[1:])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def ahead(items: Iterable[T], depth: int = 1) -> Generator[T]:
    """The items, made in a thread of their own, at most `depth` of them waiting."""
    waiting: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: T | None, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put((item, error), timeout=0.1)
                return

    def work() -> None:
        source = iter(items)
        error: BaseException = StopIteration()
        try:
            for item in source:
                put(item)
                del item  # else a chunk would be held while the next one is made
                if stopped.is_set():
                    break
        except BaseException as exc:
            error = exc
        finally:
            getattr(source, "close", lambda: None)()
            put(None, error)

    # Messages made in the thread speak to whoever called here: of options to the command line (`errors.say`).
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                if isinstance(error, StopIteration):
                    return
                raise error
            yield item  # type: ignore[misc]
            del item
    finally:
        stopped.set()
        thread.join()


def cast(tree: Any, dtype: np.dtype) -> Any:
    """The tree with its floating arrays cast to dtype; integers and booleans as they are.

    All are new objects: JAX may hold one in another precision already, where a traced function closed over it.
    """
    return jax.tree.map(lambda x: _as(np.asarray(x), dtype).view(), tree)


def _type(x: Any, dtype: np.dtype) -> np.dtype:
    """What an array is computed as: floats in dtype; integers in 32 bits outside the scope of float64, as in JAX."""
    return dtype if np.issubdtype(x.dtype, np.floating) else np.dtype(jax.dtypes.canonicalize_dtype(x.dtype))


def _as(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.asarray(x, _type(x, dtype))


def _pad(x: np.ndarray, rows: int) -> np.ndarray:
    """The rows of x, then copies of its last one: values that the kernel is known to bear."""
    if len(x) == rows:
        return x
    return np.concatenate([x, np.broadcast_to(x[-1:], (rows - len(x), *x.shape[1:]))])


def aligned(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """An empty array whose data start on a 64-byte boundary: a CPU device reads it in place, without a copy."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    buffer = np.empty(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + size].view(dtype).reshape(shape)
