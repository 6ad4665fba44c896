"""The linear correction of XP spectra: a corrected instrument.

The systematic error of XP spectra is, to first order, linear in the spectrum: an error of the instrument model, of its
response, dispersion and line spread. The corrected spectrum of a star with coefficients c is therefore

    f(l) = c (W(l) + D(l))

with the published design matrix W and one constant matrix D, the change. Whatever is made of design matrices, spectra,
passbands, errors and covariances, follows. `xpjax.wiggles` trains D on XP spectra of stars whose true spectra are
known. What it leaves is known from stars that were left out: a covariance of relative errors, which grows with a
star's distance d^2 from the stars that D was learned from, as 1 + d^2. Beyond a limit of d^2 the change fades, by the
factor limit / d^2.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import h5py
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xpjax.core.errors import XpjaxError, say
from xpjax.core.linalg import dot, interpolation
from xpjax.core.paths import DATA
from xpjax.core.records import AnyArray, Record
from xpjax.core.release import Release
from xpjax.core.units import nanometers
from xpjax.io.catalogue import write_bytes
from xpjax.io.hdf5 import open_hdf5

FORMAT, VERSION = "xpjax linear correction", 1
STANDARD, NONE = "standard", "none"
DISTANCE_MEANING = (
    "Squared distance d^2 from the stars that the linear correction was learned from; systematic errors grow as "
    "sqrt(1 + d^2), and beyond d^2 = 1 the correction fades"
)
FADE = 10.0
"""Width [nm] within which a change goes to zero beyond its wavelengths."""
FLOOR_LENGTH = 50.0
"""Distance [nm] over which the error of reference spectra is much the same."""


class Domain(eqx.Module):
    """How far a star is from those that a correction was learned from.

    d^2 = sum_k (b . direction_k / b . level - center_k)^2, with b the leading coefficients of each XP: they hold the
    shape of a spectrum and little of its noise. direction (n_lead_total, k), level (n_lead_total,), center (k,);
    beyond limit the change fades. lead: leading coefficients of each XP.
    """

    direction: Float[AnyArray, "n_lead_total k"]
    level: Float[AnyArray, " n_lead_total"]
    center: Float[AnyArray, " k"]
    limit: Float[AnyArray, ""]
    lead: tuple[int, ...] = eqx.field(static=True)

    def distance(self, value: AnyArray, release: Release) -> Array:
        """d^2 (...,) of coefficients (..., n_basis_total); NaN without them, infinite without light."""
        leading = [value[..., rows.start : rows.start + n] for rows, n in zip(release.slices, self.lead, strict=True)]
        b = jnp.concatenate(leading, axis=-1)
        level = dot(b, jnp.asarray(self.level))
        return self.squared(dot(b, jnp.asarray(self.direction)), level)

    def squared(self, shape: Array, level: Array) -> Array:
        """d^2 (...,) of b . direction (..., k) and b . level (...,), both in any one unit."""
        return jnp.where(level <= 0, jnp.inf, jnp.sum((shape / level[..., None] - self.center) ** 2, axis=-1))

    @property
    def unit(self) -> float:
        """Flux per wavelength [W m-2 nm-1] of which `rows` tell the level: keeps their numbers at order one."""
        return float(np.abs(self.level).max())

    def rows(self, release: Release) -> np.ndarray:
        """Matrix (n_basis_total, k + 1): coefficients @ matrix are shape and level of `squared`, in `unit`."""
        out = np.zeros((release.n_basis_total, np.shape(self.direction)[1] + 1))
        own = np.concatenate([np.asarray(self.direction), np.asarray(self.level)[:, None]], axis=1)
        start = 0
        for rows, n in zip(release.slices, self.lead, strict=True):
            out[rows.start : rows.start + n] = own[start : start + n]
            start += n
        return out / self.unit

    def share(self, distance: Any) -> np.ndarray:
        """The share (n,) of the change that is applied at distances d^2 (n,): 1, beyond the limit limit / d^2."""
        limit = float(self.limit)
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(distance), limit / np.maximum(distance, limit), 0.0)


@dataclasses.dataclass(frozen=True, repr=False)
class LinearCorrection(Record):
    """A linear correction, on the host.

    change (n_basis_total, m) [W m-2 nm-1 per coefficient] at wavelength (m,) [nm]: what is added to the design matrix
    of the instrument model. left (r, m): the covariance of what the correction leaves, relative to the flux, is left.T
    @ left at d^2 = 0; floor: standard error of the reference spectra themselves, relative, common to all. center
    (n_basis_total,) and root (n_basis_total, r): mean and root of the covariance of ordinary stars' coefficients over
    their mean flux on `level_range` [nm]; ordinary (m,): the mean of their corrected
    spectra, relative to that flux. domain: see `Domain`. meta: provenance, settings and figures, as JSON.
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
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        n, m = self.release.n_basis_total, len(self.wavelength)
        expected = {"change": (n, m), "center": (n,)}
        for key, shape in expected.items():
            if np.shape(getattr(self, key)) != shape:
                raise XpjaxError(f"linear correction: {key} has shape {np.shape(getattr(self, key))}, expected {shape}")

    def at(self, wavelength: np.ndarray) -> np.ndarray:
        """The change (n_basis_total, k) [W m-2 nm-1] at wavelengths (k,) [nm], to zero beyond its own."""
        matrix, share = self._from_own(np.asarray(nanometers(wavelength), float))
        return np.asarray((matrix @ self.change.T).T) * share

    def left_at(self, wavelength: np.ndarray) -> np.ndarray:
        """Root (r, k) of the covariance of what is left at wavelengths (k,) [nm], relative to the flux, at d^2 = 0.

        The covariance is root.T @ root. Beyond its own wavelengths the error is that of the nearest one. The last rows
        are the error of the reference spectra, alike within some FLOOR_LENGTH.
        """
        matrix, _ = self._from_own(np.asarray(nanometers(wavelength), float))
        return np.asarray((matrix @ self._left.T).T)

    @functools.cached_property
    def _left(self) -> np.ndarray:
        """What is left, and the error of the reference spectra, (r, m)."""
        own = self.wavelength
        size, vector = np.linalg.eigh(np.exp(-0.5 * ((own[:, None] - own) / FLOOR_LENGTH) ** 2))
        used = size > 1e-4 * size[-1]
        return np.concatenate([self.left, self.floor * (vector[:, used] * np.sqrt(size[used])).T])

    def _from_own(self, wavelength: np.ndarray) -> tuple[Any, np.ndarray]:
        """Matrix (k, m) from the correction's samples to wavelengths (k,), and the share (k,) beyond the ends."""
        own = self.wavelength
        inside = np.clip(wavelength, own[0], own[-1])
        far = np.clip(np.abs(wavelength - inside) / FADE, 0, 1)
        return interpolation(own, inside), 1 - far**2 * (3 - 2 * far)

    def check(self, release: Release, model: str) -> None:
        """Raise ValueError where coefficients of a release, or another instrument model, are not what it is for."""
        if release.n_basis != self.release.n_basis:
            raise XpjaxError(
                f"the correction {self.name} is for {self.release.name} with {self.release.n_basis} coefficients, not "
                f"for {release.name} with {release.n_basis}; leave it out, or train one (xpjax wiggles train-linear)"
            )
        if model and model != self.model:
            raise XpjaxError(
                f"the correction {self.name} was made for the instrument model {self.model}, not for {model}; leave it "
                "out, or train one on that model"
            )


def load_correction(spec: Any = STANDARD) -> LinearCorrection | None:
    """A linear correction by its name "standard", from a file, or as it is; None for None and "none".

    Raises ValueError for a file that holds none, FileNotFoundError for one that is not there.
    """
    if spec is None or isinstance(spec, LinearCorrection):
        return spec
    text = str(spec)
    if text == NONE:
        return None
    return read_linear(DATA / "correction_dr3.h5" if text == STANDARD else text)


def named_correction(name: str, given: Any = None) -> LinearCorrection | None:
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
    try:
        with open_hdf5(path) as file:
            return bool(file.attrs.get("format") == FORMAT)
    except OSError:
        return False


_ARRAYS = ("wavelength", "change", "left", "center", "root", "level_range", "ordinary")
_DOMAIN = ("direction", "level", "center", "limit", "lead")


def write_correction(path: str | Path, correction: LinearCorrection, *, overwrite: bool = False) -> None:
    """A linear correction as one HDF5 file, whole or not at all. Raises FileExistsError unless overwrite."""
    if Path(path).exists() and not overwrite:
        raise FileExistsError(f"{path} exists; name another file, or add {say('overwrite=True', '--overwrite')}")
    c, buffer = correction, io.BytesIO()
    # A plain file without times: the same correction is the same bytes.
    with h5py.File(buffer, "w", track_order=True) as file:
        file.attrs.update({"format": FORMAT, "format_version": VERSION, "name": c.name, "instrument_model": c.model})
        learned = f" from {c.meta['n_pair']} pairs" if "n_pair" in c.meta else ""
        file.attrs["title"] = f"Linear correction {c.name!r} of {c.release.name} XP spectra, learned{learned}"
        file.attrs.update({"release_name": c.release.name, "release_n_basis": c.release.n_basis})
        file.attrs.update({"release_xp": list(c.release.xp), "floor": c.floor, "meta": json.dumps(dict(c.meta))})
        for name in _ARRAYS:
            data = np.asarray(getattr(c, name), float)
            # What is left is known to a few percent: single precision is plenty.
            file.create_dataset(name, data=data.astype(np.float32) if name == "left" else data, track_times=False)
        for name in _DOMAIN:
            file.create_dataset(f"domain/{name}", data=np.asarray(getattr(c.domain, name)), track_times=False)
    write_bytes(path, buffer.getvalue())


def read_linear(path: str | Path) -> LinearCorrection:
    """A linear correction from a file of `write_linear`. Raises ValueError for another file or a newer format."""
    return _read(str(Path(path).expanduser()), Path(path).expanduser().stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(path: str, changed: int) -> LinearCorrection:
    try:
        with open_hdf5(path) as file:
            if file.attrs.get("format") != FORMAT:
                raise KeyError("no attribute format")
            version = int(file.attrs["format_version"])
            if version > VERSION:
                raise XpjaxError(f"{path} has format version {version}, this xpjax knows {VERSION}: update xpjax")
            attrs = file.attrs
            release = Release(
                str(attrs["release_name"]),
                tuple(int(n) for n in attrs["release_n_basis"]),
                tuple(str(xp) for xp in attrs["release_xp"]),
            )
            arrays = {name: np.asarray(file[name][()], float) for name in _ARRAYS}
            low, high = arrays.pop("level_range")
            domain = {name: file[f"domain/{name}"][()] for name in _DOMAIN}
            lead = tuple(int(n) for n in domain.pop("lead"))
            return LinearCorrection(
                str(attrs["name"]),
                str(attrs["instrument_model"]),
                release,
                floor=float(attrs["floor"]),
                domain=Domain(**domain, lead=lead),
                level_range=(float(low), float(high)),
                meta=json.loads(attrs["meta"]),
                **arrays,
            )
    except (OSError, KeyError) as error:
        raise XpjaxError(f"{path} is no file of a linear correction ({error})") from error
