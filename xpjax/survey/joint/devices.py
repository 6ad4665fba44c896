"""The rows of a joint solution on JAX devices: what `normal.HostRows` does, with the same results to rounding."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xpjax.core import engine
from xpjax.core.linalg import dot
from xpjax.survey.joint.normal import HostRows, Layout, Slots, root_of, sum_parts

DENSE_BYTES = 2 << 30
"""Of the dense rows of B that one device has at once."""


class DeviceRows(HostRows):
    """The same on JAX devices in float64: each part of the stars is padded to one size, each device has some parts."""

    def __init__(
        self, layout: Layout, slots: Slots, column: np.ndarray, value: np.ndarray, devices: engine.Devices
    ) -> None:
        self.layout, self.slots, self.column, self.value = layout, slots, column, value
        self._mesh = Mesh(np.array(engine.find_devices(devices)), (engine.AXIS,))
        self._sharding = NamedSharding(self._mesh, PartitionSpec(engine.AXIS))
        n_device = self._mesh.size
        rounds = max(-(-slots.n_slot * layout.n_column * 8 // (DENSE_BYTES * n_device)), 1)
        chunks = slots.chunks(-(-len(column) // (rounds * n_device)))
        self._bounds, self._stars = [slots.rows(c) for c in chunks], [slots.stars(c) for c in chunks]
        self._rounds = [slice(i, min(i + n_device, len(chunks))) for i in range(0, len(chunks), n_device)]
        self._n_row = max(b.stop - b.start for b in self._bounds)
        self._n_star = max(s.stop - s.start for s in self._stars)
        self._kernels = _device_kernels(self._mesh, layout.n_column, self._n_star * slots.n_band, slots.n_band)
        first = np.repeat([s.start for s in self._stars], [b.stop - b.start for b in self._bounds])
        self._slot = self._split(slots.row_slot - first * slots.n_band)
        self._column, self._value = self._split(column), self._split(value)

    def copy(self) -> DeviceRows:
        """The same with values of its own."""
        made = copy.copy(self)
        made.value = self.value.copy()
        return made

    def _put(self, parts: Sequence[np.ndarray], n: int, dtype: Any) -> jax.Array:
        """Arrays of one round, padded with zeros to n rows, one for each device."""
        shape = next(iter(parts)).shape[1:]
        out = np.zeros((self._mesh.size, n, *shape), dtype)
        for k, part in enumerate(parts):
            out[k, : len(part)] = part
        with engine.precision(True):
            return jax.device_put(out, self._sharding)

    def _split(self, values: np.ndarray) -> list[jax.Array]:
        dtype = np.int32 if values.dtype.kind in "iu" else np.float64
        return [self._put([values[b] for b in self._bounds[part]], self._n_row, dtype) for part in self._rounds]

    def _split_stars(self, inverse: np.ndarray) -> list[jax.Array]:
        shaped = inverse if inverse.ndim == 3 else inverse[:, None, None]
        return [self._put([shaped[s] for s in self._stars[part]], self._n_star, np.float64) for part in self._rounds]

    def _join(self, found: Sequence[jax.Array]) -> np.ndarray:
        """Rows of all rounds in one array, without padding."""
        parts = [np.asarray(a)[k, : b.stop - b.start] for a, p in zip(found, self._rounds, strict=True)
                 for k, b in enumerate(self._bounds[p])]  # fmt: skip
        return np.concatenate(parts)

    def _call(self, name: str, *arguments: Any) -> list[Any]:
        """A kernel on every round; arguments that are lists have an entry a round."""
        with engine.precision(True):
            return [
                self._kernels[name](*(a[k] if isinstance(a, list) else a for a in arguments))
                for k in range(len(self._rounds))
            ]

    def predict(self, p: np.ndarray) -> np.ndarray:
        """A p (n,)."""
        return self._join(self._call("predict", p, self._column, self._value))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum of values (n,) in each slot (n_slot,)."""
        found = self._call("sums", self._split(values), self._slot)
        out = np.zeros(self.slots.n_slot)
        m = self.slots.n_band
        for a, part in zip(found, self._rounds, strict=True):
            for k, star in enumerate(self._stars[part]):
                out[star.start * m : star.stop * m] = np.asarray(a)[k, : (star.stop - star.start) * m]
        return out

    def adjoint(self, values: np.ndarray) -> np.ndarray:
        """A' values (n_column,)."""
        return np.asarray(sum_parts(self._call("adjoint", self._split(values), self._column, self._value)))

    def operator(self, weight: np.ndarray, inverse: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """x -> (A'WA - B' D^-1 B) x."""
        w, d = self._split(weight), self._split_stars(inverse)
        fixed = w, d, self._slot, self._column, self._value
        return lambda x: np.asarray(sum_parts(self._call("operator", x, *fixed)))

    def normal(self, weight: np.ndarray, inverse: np.ndarray, *, single: bool) -> tuple[np.ndarray, np.ndarray]:
        """A'WA - B' D^-1 B and the diagonal of A'WA, always in float64."""
        w, root = self._split(weight), self._split_stars(root_of(inverse))
        found = self._call("normal", w, root, self._slot, self._column, self._value)
        return np.asfortranarray(np.asarray(sum_parts(found))), self.diagonal(weight)

    def diagonal(self, weight: np.ndarray) -> np.ndarray:
        """The diagonal of A'WA."""
        with engine.precision(True):
            squares = [value**2 for value in self._value]
        return np.array(sum_parts(self._call("adjoint", self._split(weight), self._column, squares)))

    def replace(self, b: int, values: np.ndarray) -> None:
        """Give block b other values (n, width)."""
        super().replace(b, values)
        first = self.layout.first[b]
        new = self._split(values)
        with engine.precision(True):
            self._value = [
                old.at[:, :, first : first + self.layout.width[b]].set(made)
                for old, made in zip(self._value, new, strict=True)
            ]


@functools.lru_cache(maxsize=16)
def _device_kernels(mesh: Mesh, n_column: int, n_slot: int, m: int) -> dict[str, Callable[..., Any]]:
    """Jitted kernels of one round: arrays with the devices as their first axis; sums over devices where rows end."""
    k_star = n_slot // m

    def predict(p: Any, column: Any, value: Any) -> Any:
        """A p (n,)."""
        return jnp.sum(value * p[column], axis=1)

    def sums(values: Any, slot: Any) -> Any:
        """Sum of values (n,) in each slot (n_slot,)."""
        return jax.ops.segment_sum(values, slot, n_slot)

    def adjoint(values: Any, column: Any, value: Any) -> Any:
        """A' values (n_column,)."""
        whole = jnp.zeros(n_column, value.dtype).at[column].add(value * values[:, None])
        return jax.lax.psum(whole, engine.AXIS)

    def operator(x: Any, weight: Any, inverse: Any, slot: Any, column: Any, value: Any) -> Any:
        """x -> (A'WA - B' D^-1 B) x."""
        t = weight * predict(x, column, value)
        s = jnp.einsum("sij,sj->si", inverse, sums(t, slot).reshape(k_star, m), precision="highest").ravel()
        return adjoint(t - weight * s[slot], column, value)

    def normal(weight: Any, root: Any, slot: Any, column: Any, value: Any) -> Any:
        """A'WA - B' D^-1 B and the diagonal of A'WA."""
        entry = weight[:, None] * value
        matrix = jnp.zeros((n_column, n_column), value.dtype)
        for j in range(column.shape[1]):
            matrix = matrix.at[column[:, j, None], column].add(entry[:, j, None] * value)
        dense = jnp.zeros((n_slot, n_column), value.dtype).at[slot[:, None], column].add(entry)
        dense = jnp.einsum("sji,sjp->sip", root, dense.reshape(k_star, m, n_column), precision="highest")
        dense = dense.reshape(n_slot, n_column)
        return jax.lax.psum(matrix - dot(dense.T, dense), engine.AXIS)

    rows, all_alike = PartitionSpec(engine.AXIS), PartitionSpec()

    def sharded(function: Callable[..., Any], shared: int, out: PartitionSpec) -> Callable[..., Any]:
        def one(*arguments: Any) -> Any:
            found = function(*arguments[:shared], *(a[0] for a in arguments[shared:]))
            return found[None] if out == rows else found

        def call(*arguments: Any) -> Any:
            specs = tuple(all_alike if i < shared else rows for i in range(len(arguments)))
            return jax.shard_map(one, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)(*arguments)

        return jax.jit(call)

    return {
        "predict": sharded(predict, 1, rows), "sums": sharded(sums, 0, rows),
        "adjoint": sharded(adjoint, 0, all_alike), "operator": sharded(operator, 1, all_alike),
        "normal": sharded(normal, 0, all_alike),
    }  # fmt: skip
