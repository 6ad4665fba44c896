"""The linear correction of XP spectra: a corrected instrument.

The systematic error of XP spectra is, to first order, linear in the spectrum: an error of the instrument model, of its
response, dispersion and line spread. The corrected spectrum of a star with coefficients c is therefore

    f(l) = c (W(l) + D(l))

with the published design matrix W and one constant matrix D, the change. Whatever is made of design matrices, spectra,
passbands, errors and covariances, follows. `xpjax.wiggles` trains D on XP spectra of stars whose true spectra are
known. Cross-validation gives its residuals: a covariance of relative errors, which grows with a star's distance d^2
from the training stars as 1 + d^2. Beyond a limit of d^2 the change fades, by the factor limit / d^2.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xpjax.core.errors import XpjaxError, say
from xpjax.core.linalg import host_dot, interpolation
from xpjax.core.paths import DATA
from xpjax.core.records import AnyArray, Record
from xpjax.core.release import Release, release_attributes, release_of
from xpjax.core.units import nanometers
from xpjax.io.hdf5 import model_kind, read_model, write_model

FORMAT, VERSION = "xpjax linear correction", 1
STANDARD, NONE = "standard", "none"
DISTANCE_MEANING = (
    "Squared distance d^2 from the training stars of the linear correction; systematic errors scale as sqrt(1 + d^2), "
    "and beyond d^2 = 1 the correction fades"
)
FADE = 10.0
"""Width [nm] within which a change goes to zero beyond its wavelengths."""
FLOOR_LENGTH = 50.0
"""Correlation length [nm] of the error of reference spectra."""


class Domain(eqx.Module):
    """How far a star is from the training stars of a correction.

    d^2 = sum_k (b . direction_k / b . level - center_k)^2, with b the leading coefficients of each XP: they hold the
    shape of a spectrum and little of its noise. direction (n_lead_total, k), level (n_lead_total,), center (k,);
    beyond the limit the change fades. lead: leading coefficients of each XP.
    """

    direction: Float[AnyArray, "n_lead_total k"]
    level: Float[AnyArray, " n_lead_total"]
    center: Float[AnyArray, " k"]
    limit: Float[AnyArray, ""]
    lead: tuple[int, ...] = eqx.field(static=True)

    def distance(self, value: np.ndarray, release: Release) -> np.ndarray:
        """d^2 (n,) of coefficients (n, n_basis_total), on the host; NaN without them, infinite without light.

        In NumPy: JAX outside a kernel would compile a dozen programs for every number of sources.
        """
        leading = [value[:, rows.start : rows.start + n] for rows, n in zip(release.slices, self.lead, strict=True)]
        b = np.concatenate(leading, axis=1).astype(float)
        level = b @ np.asarray(self.level)
        with np.errstate(divide="ignore", invalid="ignore"):
            off = b @ np.asarray(self.direction) / level[:, None] - np.asarray(self.center)
        return np.where(level <= 0, np.inf, np.sum(off**2, axis=1))

    def squared(self, shape: Array, level: Array) -> Array:
        """d^2 (...,) of b . direction (..., k) and b . level (...,), both in any one unit, in a kernel."""
        lit = level > 0  # divided by one where there is no light: derivatives are then finite
        off = shape / jnp.where(lit, level, 1)[..., None] - self.center
        return jnp.where(lit, jnp.sum(off**2, axis=-1), jnp.where(jnp.isnan(level), jnp.nan, jnp.inf))

    @property
    def unit(self) -> AnyArray:
        """Flux per wavelength [W m-2 nm-1] of which `rows` tell the level: keeps their numbers at order one."""
        library: Any = np if isinstance(self.level, np.ndarray) else jnp
        return library.max(abs(self.level))

    def rows(self, release: Release) -> AnyArray:
        """Matrix (n_basis_total, k + 1): coefficients @ matrix are shape and level of `squared`, in `unit`."""
        library: Any = np if isinstance(self.level, np.ndarray) else jnp
        own = library.concatenate([self.direction, self.level[:, None]], axis=1) / self.unit
        parts = library.split(own, np.cumsum(self.lead)[:-1])
        below = [n - lead for n, lead in zip(release.n_basis, self.lead, strict=True)]
        return library.concatenate([library.pad(p, ((0, n), (0, 0))) for p, n in zip(parts, below, strict=True)])

    def share(self, distance: Any) -> np.ndarray:
        """The share (n,) of the change that is applied at distances d^2 (n,): 1, beyond the limit limit / d^2."""
        limit = float(self.limit)
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(distance), limit / np.maximum(distance, limit), 0.0)


@dataclasses.dataclass(frozen=True, repr=False)
class LinearCorrection(Record):
    """Hold a linear correction of XP spectra.

    `load_correction` loads one, `xpjax.wiggles` trains one, and `Instrument.corrected` applies one.

    Parameters
    ----------
    name : str
        Name that results bear, such as `standard`.
    model : str
        Instrument model that the correction is for.
    release : Release
        Data release that the correction is for.
    wavelength : (m,) array [nm]
        Wavelengths of the change.
    change : (n_basis_total, m) array [W m-2 nm-1]
        What is added to the design matrix of the instrument model.
    left : (r, m) array
        Root of the covariance of the residuals of corrected spectra, relative to the flux: the covariance is
        left.T @ left for a star at d^2 = 0.
    floor : float
        Standard error of the reference spectra, relative to the flux, common to all stars.
    domain : Domain
        Distance d^2 of a star from the training stars, and its limit.
    center : (n_basis_total,) array
        Mean of the coefficients of ordinary stars, over their mean flux on `level_range`.
    root : (n_basis_total, r) array
        Root of the covariance of these coefficients.
    level_range : tuple of two floats [nm]
        Wavelengths over which a mean flux is taken.
    ordinary : (m,) array
        Mean of the corrected spectra of ordinary stars, relative to that flux.
    meta : mapping
        Provenance, settings and cross-validation residuals, as JSON holds them.

    Notes
    -----
    The corrected spectrum of coefficients c is c (W + D), with the design matrix W and the change D. The relative
    covariance of its residuals grows with a star's distance d^2 from the training stars as 1 + d^2. To JAX it is a
    pytree with one leaf, the change: `xpjax.magnitudes` can be differentiated with respect to it.

    Examples
    --------
    >>> correction = xpjax.load_correction("standard")
    >>> correction.at(np.array([400.0, 900.0])).shape
    (110, 2)
    """

    name: str
    model: str
    release: Release
    wavelength: np.ndarray
    change: np.ndarray
    left: np.ndarray
    floor: float
    domain: Domain
    center: np.ndarray
    root: np.ndarray
    level_range: tuple[float, float]
    ordinary: np.ndarray
    meta: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        n, m = self.release.n_basis_total, len(self.wavelength)
        for key, shape in (("change", (n, m)), ("center", (n,))):
            if np.shape(getattr(self, key)) != shape:
                raise XpjaxError(f"linear correction: {key} has shape {np.shape(getattr(self, key))}, expected {shape}")

    def at(self, wavelength: np.ndarray) -> AnyArray:
        """The change (n_basis_total, k) [W m-2 nm-1] at wavelengths (k,) [nm], to zero beyond its own."""
        matrix, share = _from_samples(self.wavelength, np.asarray(nanometers(wavelength), float))
        return host_dot(self.change, matrix.T.toarray()) * share

    def left_at(self, wavelength: np.ndarray) -> np.ndarray:
        """Root (r, k) of the covariance of residuals at wavelengths (k,) [nm], relative to the flux, at d^2 = 0.

        The covariance is root.T @ root. Beyond the correction's wavelengths the error is that of the nearest one. The
        last rows are the error of the reference spectra, correlated over some FLOOR_LENGTH.
        """
        matrix, _ = _from_samples(self.wavelength, np.asarray(nanometers(wavelength), float))
        return np.asarray((matrix @ self._left.T).T)

    @functools.cached_property
    def _left(self) -> np.ndarray:
        """Roots of the covariances of residuals and of the reference spectra, (r, m)."""
        own = self.wavelength
        size, vector = np.linalg.eigh(np.exp(-0.5 * ((own[:, None] - own) / FLOOR_LENGTH) ** 2))
        used = size > 1e-4 * size[-1]
        return np.concatenate([self.left, self.floor * (vector[:, used] * np.sqrt(size[used])).T])

    def check(self, release: Release, model: str) -> None:
        """Raise XpjaxError for a release or an instrument model that the correction is not for."""
        if release.n_basis != self.release.n_basis:
            raise XpjaxError(
                f"the correction {self.name} is for {self.release.name} with {self.release.n_basis} coefficients, not "
                f"for {release.name} with {release.n_basis}; {_without()}, or train one (xpjax wiggles train-linear)"
            )
        if model and model != self.model:
            raise XpjaxError(
                f"the correction {self.name} was made for the instrument model {self.model}, not for {model}; "
                f"{_without()}, or train one on that model"
            )


def _from_samples(own: np.ndarray, wavelength: np.ndarray) -> tuple[Any, np.ndarray]:
    """Matrix (k, m) from samples at a change's own wavelengths (m,) to others (k,), and the share beyond the ends."""
    inside = np.clip(wavelength, own[0], own[-1])
    far = np.clip(np.abs(wavelength - inside) / FADE, 0, 1)
    return interpolation(own, inside), 1 - far**2 * (3 - 2 * far)


def change_samples(own: np.ndarray, wavelength: np.ndarray) -> Any:
    """Sparse matrix (m, k) from weights (k,) of wavelengths [nm] to those of a change at its own wavelengths (m,)."""
    matrix, share = _from_samples(own, wavelength)
    return matrix.T.multiply(share).tocsr()


class _Fixed:
    """All of a correction but the change: to JAX the same as another of the same parts."""

    def __init__(self, correction: LinearCorrection) -> None:
        fields = dataclasses.fields(correction)
        self.parts = {f.name: getattr(correction, f.name) for f in fields if f.name != "change"}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Fixed):
            return False
        pairs = [(part, other.parts[name]) for name, part in self.parts.items()]
        return all(a is b or (isinstance(a, str | float | tuple | Release) and a == b) for a, b in pairs)

    def __hash__(self) -> int:
        return hash((self.parts["name"], self.parts["model"], id(self.parts["wavelength"])))


def _of_parts(fixed: _Fixed, leaves: tuple[Any]) -> LinearCorrection:
    """The correction with a change, in whose place JAX's transformations put other things of any shape."""
    made = object.__new__(LinearCorrection)
    for name, part in {**fixed.parts, "change": leaves[0]}.items():
        object.__setattr__(made, name, part)
    return made


jax.tree_util.register_pytree_node(LinearCorrection, lambda c: ((c.change,), _Fixed(c)), _of_parts)


def _without() -> str:
    """How to do without the correction, which commands have by default."""
    return say("leave it out", "give --correction none")


AnyLinear: TypeAlias = LinearCorrection | str | Path | None
"""A linear correction as `load_correction` takes it: itself, its name or file, or none."""


def load_correction(spec: AnyLinear = STANDARD) -> LinearCorrection | None:
    """Load a linear correction of XP spectra by its name, or from a file.

    Parameters
    ----------
    spec : str, Path, LinearCorrection or None
        `standard`, the correction that xpjax ships; a file of `xpjax.xp.write_correction`; a correction, which is
        returned as it is; `none` or None for no correction.

    Returns
    -------
    LinearCorrection or None
        The correction; None where there is to be none.

    Raises
    ------
    XpjaxError
        If the file holds no linear correction, or one of a newer format.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> xpjax.load_correction("standard").model
    'v375wi/v142r'
    """
    if spec is None or isinstance(spec, LinearCorrection):
        return spec
    text = str(spec)
    if text == NONE:
        return None
    path = DATA / "correction_dr3.h5" if text == STANDARD else Path(text).expanduser()
    return _read(str(path), path.stat().st_mtime_ns)


def named_correction(name: str, given: AnyLinear = None) -> LinearCorrection | None:
    """The linear correction of this name: one given, "standard", or None for "none". Raises ValueError for others."""
    chosen = load_correction(given)
    if chosen is not None:
        if chosen.name != name:
            raise XpjaxError(f"what stands on the linear correction {name} cannot have {chosen.name}: give {name}")
        return chosen
    if name not in (STANDARD, NONE):
        raise XpjaxError(
            f"the linear correction {name} is needed, which is not the standard one: give its file by "
            + say("base=", "--base")
        )
    return load_correction(name)


def is_linear(path: str | Path) -> bool:
    """Whether a file holds a linear correction."""
    return model_kind(path) == FORMAT


_ARRAYS = ("wavelength", "change", "left", "center", "root", "level_range", "ordinary")
_DOMAIN = ("direction", "level", "center", "limit", "lead")


def write_correction(path: str | Path, correction: LinearCorrection, *, overwrite: bool = False) -> None:
    """Write a linear correction as one HDF5 file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        File to write; `load_correction` and `--correction` read it.
    correction : LinearCorrection
        The correction; the same correction gives the same bytes.
    overwrite : bool
        Whether to replace a file that exists.

    Raises
    ------
    FileExistsError
        If the file exists and is not to be overwritten.
    OSError
        If the disk refuses.

    Examples
    --------
    >>> xpjax.xp.write_correction("mine.h5", xpjax.load_correction("standard"))
    >>> xpjax.load_correction("mine.h5").name
    'standard'
    """
    c = correction
    learned = f" from {c.meta['n_pair']} pairs" if "n_pair" in c.meta else ""
    attributes = {
        "name": c.name,
        "instrument_model": c.model,
        "title": f"Linear correction {c.name!r} of {c.release.name} XP spectra, learned{learned}",
        **release_attributes(c.release),
        "floor": c.floor,
        "meta": json.dumps(dict(c.meta)),
    }
    # What is left is known to a few percent: single precision is plenty.
    arrays = {n: np.asarray(getattr(c, n), np.float32 if n == "left" else float) for n in _ARRAYS}
    arrays |= {f"domain/{name}": np.asarray(getattr(c.domain, name)) for name in _DOMAIN}
    write_model(path, FORMAT, VERSION, arrays, attributes, overwrite=overwrite)


@functools.lru_cache(maxsize=8)
def _read(path: str, changed: int) -> LinearCorrection:
    """A linear correction from a file; changed, its time of change, tells that a file is another one now."""
    arrays, attributes = read_model(path, FORMAT, VERSION, "file of a linear correction")
    own = {name: np.asarray(arrays[name], float) for name in _ARRAYS}
    domain = {name: arrays[f"domain/{name}"] for name in _DOMAIN}
    lead = tuple(int(n) for n in domain.pop("lead"))
    fields: dict[str, Any] = {**own, "domain": Domain(**domain, lead=lead), "floor": float(attributes["floor"])}
    fields |= {"level_range": tuple(own["level_range"].tolist()), "meta": json.loads(attributes["meta"])}
    name, model = str(attributes["name"]), str(attributes["instrument_model"])
    return LinearCorrection(name, model, release_of(attributes), **fields)
