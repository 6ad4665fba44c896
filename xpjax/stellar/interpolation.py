"""Spectra between the nodes of a grid: few principal components, interpolated piecewise, with exact derivatives.

    N(x) = m + sum_c a_c(x) m v_c,   a_c(x) = sum_ijk w_i(x_1) w_j(x_2) w_k(x_3) A_ijkc

m is the mean spectrum of the grid and v_c the components of (grid - mean) / mean. Along each label the weights are
polynomials in every cell, and three kinds differ only in these and in A:

    spline   cubic B-spline with not-a-knot ends (lower order where a label has fewer than four nodes); full grids only
    local    cubic with the slopes of parabolas through three nodes; quadratic in edge cells and next to holes
    linear   straight lines

Nothing is extrapolated: beyond the grid, and in cells with a hole at a corner, there is no spectrum.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from xpjax.core import engine
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import IN_BOUNDS, dot
from xpjax.core.process import one_blas_thread
from xpjax.core.records import AnyArray
from xpjax.core.units import in_unit
from xpjax.stellar.doubt import beyond, corner_doubts, doubt_in_components
from xpjax.stellar.grid import StellarGrid

KINDS = ("spline", "local", "linear")
COEFFICIENTS = "coefficients"
"""The sampling of a grid whose last axis is XP coefficients, not flux."""
COMPONENTS = 32
"""Enough for S/N 100 on 330 samples of NextGen's regular block: 16 cost 10 % of the precision, 24 cost 1 %."""
ENOUGH = 1e-3
"""What components may leave out, RMS, where their number is not given: all of NextGen needs twice as many as its block,
and with as few as that chi2 grows by a fifth."""


class Place(NamedTuple):
    """Where a point lies: its cells and their lengths (n_label,), and whether it is in a whole cell of the grid."""

    cell: Array
    length: Array
    inside: Array


class Interpolator(eqx.Module):
    """Model spectra anywhere in a grid of labels; one point at a time, see `model_spectra` for many.

    nodes: (n,) of each label. left, length (n_label, n_cell): where the cells begin and how long they are, infinite
    and one beyond the last. weight (n_label, n_cell, width, width): polynomials, in ascending powers, of the place 0..1
    within a cell, that weigh `width` coefficients from start (n_label, n_cell) on. coefficient (*n_coefficient,
    n_component). basis (n_component, n_wavelength) and mean (n_wavelength,) of the mean-normalized flux. whole
    (*n_cell,): which cells have spectra at all their corners. compression_rms and compression_max: what the components
    leave out of (grid - mean) / mean, over nodes and wavelengths. of_coefficients: "flux" is XP coefficients, scaled by
    their sizes and not by their means. systematic, systematic_variance, systematic_floor: the grid's. doubt (*node,
    n_component): what it may be wrong by at each node, where the grid says so; bent (n_label, n_cell, width, width):
    polynomials that weigh what parabolas to the left and right differ by; doubted: for which labels.
    """

    nodes: tuple[Float[AnyArray, " n"], ...]
    left: Float[AnyArray, "n_label n_cell"]
    length: Float[AnyArray, "n_label n_cell"]
    start: Int[AnyArray, "n_label n_cell"]
    weight: Float[AnyArray, "n_label n_cell width width"]
    coefficient: Float[AnyArray, "*n_coefficient n_component"]
    basis: Float[AnyArray, "n_component n_wavelength"]
    mean: Float[AnyArray, " n_wavelength"]
    whole: Bool[AnyArray, "*n_cell"]
    wavelength: Float[AnyArray, " n_wavelength"]
    compression_rms: Float[AnyArray, ""]
    compression_max: Float[AnyArray, ""]
    names: tuple[str, ...] = eqx.field(static=True)
    kind: str = eqx.field(static=True)
    of_coefficients: bool = eqx.field(static=True, default=False)
    systematic: Float[AnyArray, "n_template n_wavelength"] | None = None
    systematic_variance: Float[AnyArray, "n_color n_template_and_1"] | None = None
    systematic_floor: float = eqx.field(static=True, default=0.0)
    doubt: Float[AnyArray, "*node n_component"] | None = None
    bent: Float[AnyArray, "n_label n_cell width width"] | None = None
    doubted: tuple[bool, ...] = eqx.field(static=True, default=())

    @property
    def block_size(self) -> int:
        """How many numbers one point reads from the coefficients."""
        return self.weight.shape[-1] ** len(self.nodes) * self.coefficient.shape[-1]

    @property
    def low(self) -> Array:
        """The first node (n_label,) of each label."""
        return jnp.asarray(self.left)[:, 0]

    @property
    def high(self) -> Array:
        """The last node (n_label,) of each label."""
        return jnp.concatenate([jnp.asarray(x)[-1:] for x in self.nodes])

    def locate(self, labels: Float[Array, " n_label"]) -> Place:
        """Where the labels (n_label,) lie; those beyond the grid in its outermost cells, and not inside."""
        left, whole = jnp.asarray(self.left), jnp.asarray(self.whole)
        cell = jnp.sum(labels[:, None] >= left[:, 1:], axis=1, dtype=jnp.int32)
        within = jnp.all((labels >= self.low) & (labels <= self.high))
        strides = np.append(np.cumprod(whole.shape[:0:-1])[::-1], 1).astype(np.int32)
        there = whole.reshape(-1).at[jnp.sum(cell * strides)].get(**IN_BOUNDS)
        return Place(cell, _of_cell(self.length, cell), within & there)

    def components(self, labels: Float[Array, " n_label"], place: Place) -> Float[Array, "n_label_and_1 n_component"]:
        """Coefficients at the labels, and below them their slopes for each label, per length of the cell."""
        power, weight = self._powers(labels, place), _of_cell(self.weight, place.cell)
        rows = [weight[:, k] for k in range(len(power))]
        rise = [jnp.zeros_like(power[0]), *(k * p for k, p in enumerate(power[:-1], 1))]
        each = [sum(p[:, None] * row for p, row in zip(powers, rows, strict=True)) for powers in (power, rise)]
        each = lax.optimization_barrier(each)  # otherwise computed anew for each of the products below
        value, slope = ([one[label] for label in range(len(labels))] for one in each)
        # Weights of the whole block of coefficients, so that one product gives all: several small ones cost more.
        before = [jnp.ones((1,), power[0].dtype)]
        for row in value:
            before.append(_outer(before[-1], row))
        joint = [before[-1]]
        for label in range(len(labels)):
            joint.append(functools.reduce(_outer, [slope[label], *value[label + 1 :]], before[label]))
        return self._weighed(place, joint)

    def doubts(self, labels: Float[Array, " n_label"], place: Place) -> Float[Array, "n_doubt n_component"]:
        """Coefficients of what the spectrum at the labels may be wrong by, in independent ways."""
        power = self._powers(labels, place)
        corners = corner_doubts(jnp.asarray(self.doubt), place.cell, power[1], self.doubted)
        if self.bent is None:
            return corners
        usual, other = (
            jnp.sum(jnp.stack([p[:, None] * of[:, k] for k, p in enumerate(power)]), axis=0)
            for of in (_of_cell(table, place.cell) for table in (self.weight, self.bent))
        )
        joint = [
            functools.reduce(_outer, [(other if label == moving else usual)[label] for label in range(len(labels))])
            for moving in np.flatnonzero(self.doubted)
        ]
        return jnp.concatenate([corners, self._weighed(place, joint)])

    def _powers(self, labels: Array, place: Place) -> list[Array]:
        """Powers 0, 1, ... of the place 0..1 within the cell, as many as polynomials have."""
        u = (labels - _of_cell(self.left, place.cell)) / place.length
        power = [jnp.ones_like(u)]
        for _ in range(self.weight.shape[-1] - 1):
            power.append(power[-1] * u)
        return power

    def _weighed(self, place: Place, joint: list[Array]) -> Array:
        """Sums (n, n_component) of the block of coefficients about a place, with n weights of all of them."""
        table, width = jnp.asarray(self.coefficient), self.weight.shape[-1]
        first = [*_of_cell(self.start, place.cell), np.int32(0)]
        sizes = (*[width] * len(self.nodes), table.shape[-1])
        block = lax.dynamic_slice(table, first, sizes, allow_negative_indices=False)
        return dot(jnp.stack(joint), block.reshape(-1, table.shape[-1]))

    def __call__(self, labels: Float[Array, " n_label"]) -> Float[Array, " n_wavelength"]:
        """Mean-normalized flux (n_wavelength,) at the labels (n_label,); NaN beyond the grid and in holes."""
        return self.value_and_gradient(labels)[0]

    def value_and_gradient(self, labels: Float[Array, " n_label"]) -> tuple[Array, Array]:
        """Flux (n_wavelength,) and its derivatives (n_label, n_wavelength); NaN beyond the grid and in holes."""
        labels = jnp.asarray(labels)
        place = self.locate(labels)
        flux = dot(self.components(labels, place), self.basis)
        known = jnp.where(place.inside, 1, jnp.nan)
        return (flux[0] + self.mean) * known, flux[1:] / place.length[:, None] * known


def _outer(one: Array, other: Array) -> Array:
    """All products (n m,) of two rows (n,) and (m,)."""
    return (one[:, None] * other).reshape(-1)


def _of_cell(table: AnyArray, cell: Array) -> Array:
    """What a table (n_label, n_cell, ...) says of one cell (n_label,) of each label."""
    return jnp.asarray(table).at[np.arange(len(cell)), cell].get(**IN_BOUNDS)


def interpolate_grid(grid: StellarGrid, *, kind: str = "local", components: float | None = ENOUGH) -> Interpolator:
    """Prepare the interpolation of a grid, on the host in float64.

    Parameters
    ----------
    grid : StellarGrid
        Model spectra at the nodes of labels.
    kind : {"local", "spline", "linear"}, optional
        Polynomials between nodes. On left-out nodes of NextGen local is nearer to the truth than a spline by 10 %, and
        labels suffer less where stars were interpolated otherwise (scipy's PCHIP, Akima).
    components : int or float, optional
        Number of principal components that are kept, or, below one, the RMS that they may leave out (of deviations from
        the mean spectrum in units of it), but 32 at least; None keeps all.

    Returns
    -------
    Interpolator
        A function of labels (n_label,) that gives the mean-normalized flux (n_wavelength,), NaN beyond the grid.

    Raises
    ------
    XpjaxError
        For a spline on a grid with holes, labels with a single node, and grids without a whole cell.

    Notes
    -----
    N(x) = m + sum_c a_c(x) m v_c: m is the mean spectrum, v_c are principal components of (grid - mean) / mean, and
    a_c(x) polynomials in every cell.

    Examples
    --------
    >>> teff, wavelength = np.linspace(4000.0, 7000.0, 7), np.linspace(360.0, 990.0, 60)
    >>> flux = np.exp(-wavelength * 3000 / teff[:, None] / 1000)
    >>> grid = xpjax.stellar.StellarGrid((teff,), flux / flux.mean(axis=1, keepdims=True), wavelength, ("teff",))
    >>> model = xpjax.stellar.interpolate_grid(grid)
    >>> np.allclose(model.low, 4000), model.kind
    (True, 'local')
    """
    nodes, known, whole = _checked_nodes(grid, kind)
    flux = np.asarray(grid.flux, float)
    mean, basis, share, rms, largest = _compressed(flux[known], components, grid.sampling == COEFFICIENTS)
    values = np.full((*known.shape, len(basis)), np.nan)
    values[known] = share
    if kind == "local":
        values = _with_ghosts(values, nodes, whole)
    elif kind == "spline":
        for label, x in enumerate(nodes):
            values = _spline_coefficients(x, values, label)
    make = {"spline": _spline_weights, "local": _local_weights, "linear": _linear_weights}[kind]
    start, weight = zip(*(make(x) for x in nodes), strict=True)
    width = max(w.shape[-1] for w in weight)
    n_cell = max(whole.shape)
    # Labels with few nodes have fewer coefficients than others weigh; what no whole cell needs is still NaN.
    short = [(0, max(width - n, 0)) for n in values.shape[:-1]]
    return Interpolator(
        nodes,
        np.stack([_padded(x[:-1], (n_cell,), np.inf) for x in nodes]),
        np.stack([_padded(np.diff(x), (n_cell,), 1.0) for x in nodes]),
        np.stack([_padded(s, (n_cell,), 0) for s in start]).astype(np.int32),
        np.stack([_padded(w, (n_cell, width, width), 0.0) for w in weight]),
        np.pad(np.nan_to_num(values), [*short, (0, 0)]),
        basis,
        mean,
        whole,
        np.asarray(grid.wavelength, float),
        rms,
        largest,
        tuple(grid.names),
        kind,
        grid.sampling == COEFFICIENTS,
        None if grid.systematic is None else np.asarray(grid.systematic, float),
        None if grid.systematic_variance is None else np.asarray(grid.systematic_variance, float),
        grid.systematic_floor,
        **doubt_in_components(grid, known, basis, mean, nodes if kind == "local" else None),
    )


def _compressed(spectra: np.ndarray, components: float | None, of_coefficients: bool) -> tuple[np.ndarray, ...]:
    """Spectra (n, n_wavelength) as mean + share (n, n_component) @ basis: mean, basis, share, and what is left out.

    The work is done in the memory of the spectra: to take more costs as much as the sums.
    """
    mean = spectra.mean(axis=0)
    # Coefficients have any sign: each is measured by its size over the nodes.
    scale = np.sqrt(np.mean(spectra**2, axis=0)) if of_coefficients else mean
    deviation = np.subtract(spectra, mean, out=spectra)
    deviation /= scale
    with one_blas_thread():
        # Of many nodes the triangle first: the decomposition of all of them takes ten times as long.
        _, size, vectors = np.linalg.svd(np.linalg.qr(deviation, mode="r"), full_matrices=False)
        vectors = vectors[: _number(components, size**2 / deviation.size)]
        share = deviation @ vectors.T
        left = share @ vectors
    np.subtract(deviation, left, out=left)
    largest = np.asarray(max(left.max(), -left.min()))
    rms = np.asarray(np.sqrt(np.mean(np.square(left, out=left))))
    return mean, vectors * scale, share, rms, largest


def _number(components: float | None, variance: np.ndarray) -> int | None:
    """How many components are kept, by their number or by the RMS that they leave out; variance (n,): of each."""
    if components is None or components >= 1:
        return None if components is None else int(components)
    beyond = np.append(np.cumsum(variance[::-1])[::-1], 0)
    return max(COMPONENTS, int(np.argmax(beyond <= components**2)))


def _checked_nodes(grid: StellarGrid, kind: str) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
    """The nodes, which of them have spectra, and which cells have all their corners. Raises XpjaxError."""
    nodes = tuple(np.asarray(x, float) for x in grid.nodes)
    for name, x in zip(grid.names, nodes, strict=True):
        if len(x) < 2:
            raise XpjaxError(f"label {name!r} has {len(x)} node: nothing to interpolate; drop that axis of the grid")
    known = np.isfinite(np.asarray(grid.flux)).all(axis=-1)
    if kind not in KINDS:
        raise XpjaxError(f"no interpolation {kind!r}; choose from {KINDS}")
    if kind == "spline" and not known.all():
        raise XpjaxError(f"{(~known).sum()} of {known.size} nodes are holes: use kind='local', or fill them first")
    whole = _whole(known)
    if not whole.any():
        raise XpjaxError("no cell of the grid has spectra at all its corners; take fewer nodes, or fill the holes")
    return nodes, known, whole


def _padded(array: np.ndarray, shape: tuple[int, ...], value: float) -> np.ndarray:
    """The array filled up to this shape."""
    return np.pad(array, [(0, n - m) for n, m in zip(shape, array.shape, strict=True)], constant_values=value)


def _whole(known: np.ndarray) -> np.ndarray:
    """Which cells have all their corners."""
    corners = itertools.product((slice(None, -1), slice(1, None)), repeat=known.ndim)
    return np.logical_and.reduce([known[corner] for corner in corners])


def _degree(x: np.ndarray) -> int:
    return min(3, len(x) - 1)


def _spline_coefficients(x: np.ndarray, values: np.ndarray, label: int) -> np.ndarray:
    """Coefficients, along one label, of the spline through the values."""
    from scipy.interpolate import make_interp_spline

    spline = make_interp_spline(x, np.moveaxis(values, label, 0), k=_degree(x))
    return np.moveaxis(spline.c, 0, label)


def _spline_weights(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each basis function's Taylor series at the left node of each cell: exact, for no knot lies inside one.

    As of the other kinds: the first coefficients (n_cell,) and the polynomials (n_cell, n_power, width).
    """
    from scipy.interpolate import BSpline, make_interp_spline

    degree, cells = _degree(x), np.arange(len(x) - 1)
    knots = make_interp_spline(x, np.zeros(len(x)), k=degree).t
    start = np.searchsorted(knots, 0.5 * (x[1:] + x[:-1]), side="right") - 1 - degree
    basis = BSpline(knots, np.eye(len(x)), degree)
    rows, length, factorial, weight = cells[:, None], np.diff(x), 1.0, []
    for power in range(degree + 1):
        factorial *= max(power, 1)
        series = (basis.derivative(power) if power else basis)(x[:-1]) * (length**power / factorial)[:, None]
        weight.append(series[rows, start[:, None] + np.arange(degree + 1)])
    return start, np.stack(weight, axis=1)


def _local_weights(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hermite cubics with the slopes of parabolas, on the nodes with ghosts at either end."""
    length = np.diff(beyond(x))
    weight = np.zeros((len(x) - 1, 4, 4))
    hermite = np.array([[1, 0, -3, 2], [0, 0, 3, -2], [0, 1, -2, 1], [0, 0, -1, 1]], float)
    for cell in range(len(x) - 1):
        a, b, c = length[cell : cell + 3]
        # Rows: what value left, value right, slope left and slope right (per cell length) are of the four nodes.
        rows = np.zeros((4, 4))
        rows[0, 1] = rows[1, 2] = 1
        rows[2, :3] = np.array([-b / a, b / a - a / b, a / b]) / (a + b) * b
        rows[3, 1:] = np.array([-c / b, c / b - b / c, b / c]) / (b + c) * b
        weight[cell] = hermite.T @ rows
    return np.arange(len(x) - 1), weight


def _linear_weights(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cells = np.arange(len(x) - 1)
    return cells, np.tile([[1.0, 0.0], [-1.0, 1.0]], (len(cells), 1, 1))


def _with_ghosts(values: np.ndarray, nodes: tuple[np.ndarray, ...], whole: np.ndarray) -> np.ndarray:
    """Values with one more node at either end of each label, and with what cells need beyond edges and holes.

    These ghosts continue parabolas, or lines where only two nodes are known; the mean where several labels offer one.
    A cubic next to a ghost so is a parabola or less; as every node has one value, it stays smooth from cell to cell.
    """
    n_label = len(nodes)
    values = np.pad(values, [(1, 1)] * n_label + [(0, 0)], constant_values=np.nan)
    needed = np.zeros(values.shape[:-1], bool)
    for shift in itertools.product(range(4), repeat=n_label):
        needed[tuple(slice(s, s + n) for s, n in zip(shift, whole.shape, strict=True))] |= whole
    wide = [beyond(x) for x in nodes]
    # As often as there are labels: a ghost that is off in two labels needs those that are off in one.
    for order in np.repeat((3, 2), n_label):
        missing = np.nonzero(needed & np.isnan(values[..., 0]))  # as are all components of a node
        if not len(missing[0]):
            break
        total, count = np.zeros((len(missing[0]), values.shape[-1])), np.zeros(len(missing[0]), int)
        for label, x in enumerate(wide):
            for step in (1, -1):
                ghost = _continued(values, missing, label, x, step, order)
                there = np.isfinite(ghost[:, 0])
                total[there] += ghost[there]
                count += there
        fill = count > 0
        values[tuple(index[fill] for index in missing)] = total[fill] / count[fill, None]
    return values


def _continued(
    values: np.ndarray, places: tuple[np.ndarray, ...], label: int, x: np.ndarray, step: int, order: int
) -> np.ndarray:
    """At some nodes what the polynomial through the next `order` nodes of a label foretells; NaN where not known."""
    out = np.full((len(places[0]), values.shape[-1]), np.nan)
    for i in np.unique(places[label]):
        others = i + step * np.arange(1, 1 + order)
        if not 0 <= others[-1] < len(x):
            continue
        rows = places[label] == i
        points = x[others]
        share = [np.prod([(x[i] - p) / (q - p) for p in points if p != q]) for q in points]
        near = [tuple(k if axis == label else index[rows] for axis, index in enumerate(places)) for k in others]
        out[rows] = np.tensordot(share, np.stack([values[where] for where in near]), axes=1)
    return out


def _flux_kernel(model: Interpolator, labels: Array) -> Array:
    return model(labels)


def model_spectra(
    model: Interpolator | StellarGrid, labels: ArrayLike, *, float64: bool = False, devices: engine.Devices = None
) -> Float[np.ndarray, "n n_wavelength"]:
    """Interpolate the spectra of a grid at labels.

    Parameters
    ----------
    model : Interpolator or StellarGrid
        The grid.
    labels : (n, n_label) array
        Labels in the order of the grid's names [K for teff, dex for logg and mh].
    float64 : bool, optional
        Compute in float64.
    devices : optional
        Devices, see `xpjax.core.engine.find_devices`.

    Returns
    -------
    (n, n_wavelength) array
        Mean-normalized flux; NaN beyond the grid and in cells with a hole at a corner.

    Raises
    ------
    XpjaxError
        If labels have another shape or unit.

    Examples
    --------
    >>> teff, wavelength = np.linspace(4000.0, 7000.0, 7), np.linspace(360.0, 990.0, 60)
    >>> flux = np.exp(-wavelength * 3000 / teff[:, None] / 1000)
    >>> grid = xpjax.stellar.StellarGrid((teff,), flux / flux.mean(axis=1, keepdims=True), wavelength, ("teff",))
    >>> xpjax.stellar.model_spectra(grid, [[5200.0], [8000.0]])[:, 0]
    array([1.19..., nan], dtype=float32)
    """
    model = model if isinstance(model, Interpolator) else interpolate_grid(model)
    labels = np.asarray(in_unit(labels, "", "labels"), float)
    if labels.ndim != 2 or labels.shape[1] != len(model.names):
        raise XpjaxError(f"labels must be (n, {len(model.names)}) for {model.names}, found {labels.shape}")
    return engine.run(_flux_kernel, model, labels, float64=float64, devices=devices, work_bytes=8 * model.block_size)
