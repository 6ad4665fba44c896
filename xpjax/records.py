"""The records that flow through xpjax, and the status bits; no computing here.

Records that kernels see are `equinox.Module` pytrees for one source; a batch is a leading axis on every array.
Whatever is not computed with (`source_id`, input columns) lives in the host-only `SourceTable`.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, TypeAlias, overload

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from xpjax.errors import XpjaxError, say
from xpjax.units import in_unit

AnyArray: TypeAlias = Array | np.ndarray
"""NumPy on the host, JAX in a kernel."""


class Bits(enum.IntFlag):
    """Flags: a number and a sentence each; append-only, so that stored values keep their meaning."""

    _sentence: str

    def __new__(cls, value: int, sentence: str = "") -> Self:
        """A flag: its number, and what it means."""
        bit = int.__new__(cls, value)
        bit._value_ = value
        bit._sentence = sentence
        return bit

    @property
    def meaning(self) -> str:
        """What the bits that are set say, a sentence each."""
        return " ".join(bit._sentence for bit in type(self) if bit & self)

    @classmethod
    def describe(cls, status: int) -> str:
        """The names of the bits that are set, joined by `|`; `OK` for none."""
        return "|".join(str(bit.name) for bit in cls if bit and bit & status) or "OK"

    @classmethod
    def counts(cls, status: np.ndarray) -> dict[Self, int]:
        """How many of the numbers (n,) have each flag, for those that some have."""
        status = np.asarray(status).astype(np.uint32)
        counts = {bit: int(np.count_nonzero(status & np.uint32(bit))) for bit in cls}
        return {bit: count for bit, count in counts.items() if count}

    @classmethod
    def legend(cls) -> str:
        """What the numbers stand for, as the description of a column."""
        return "Bits: " + ", ".join(f"{int(bit)} {bit.name}" for bit in cls if bit)


class Status(Bits):
    """What is to be known of one source; `Status(5).meaning` says it in words."""

    OK = 0
    BP_MISSING = 1 << 0, "No BP coefficients: what needs BP is NaN."
    RP_MISSING = 1 << 1, "No RP coefficients: what needs RP is NaN."
    BP_BAD = 1 << 2, "A BP coefficient is not finite, or its cell could not be read: BP is not used."
    RP_BAD = 1 << 3, "An RP coefficient is not finite, or its cell could not be read: RP is not used."
    BP_NO_ERROR = 1 << 4, "BP has coefficients, but no usable errors or correlations: errors that need BP are NaN."
    RP_NO_ERROR = 1 << 5, "RP has coefficients, but no usable errors or correlations: errors that need RP are NaN."
    ID_MISSING = 1 << 6, "The row has no source_id; it is written as 0."
    DUPLICATE = 1 << 7, "An earlier row of the same input has the same source_id; both are kept."
    NONPOSITIVE_FLUX = 1 << 8, "The flux of a requested band is zero or negative: its magnitude is NaN."
    BAND_MISSING = 1 << 9, "A requested band or sample needs an XP that is missing or bad: it is NaN."
    COLOR_EXTRAPOLATED = 1 << 10, "A color equation was used outside its color range, where it is linear."
    NO_ERROR_CORRECTION = 1 << 11, "No synthetic G, which error correction needs: the errors are uncorrected."
    CELL_REPAIRED = 1 << 12, "An odd cell, not of a coefficient, was read as missing."
    NOT_CORRECTED = 1 << 13, "A correction was not applied: spectrum and magnitudes are as without it."
    FEATURE_MISSING = 1 << 14, "A magnitude, color or E(B-V) that the correction needs is missing."
    OUTSIDE_TRAINING = (
        1 << 15,
        "The star, or a feature of it, is outside the range that the correction was made for.",
    )
    OUTSIDE_LIMITS = 1 << 16, "Teff, [M/H] or A_V is outside the limits within which the correction is applied."
    CORRECTION_LARGE = 1 << 17, "The linear correction changes a requested band by more than 0.15 mag; by 0.35 at most."


class FitStatus(Bits):
    """How a fit of stellar labels ended; OK: converged inside the grid."""

    OK = 0
    EDGE = 1 << 0, "At least one label ended at the edge of the grid and is held there."
    HOLE = 1 << 1, "The fit wants to go into a hole of the grid."
    BAD_INPUT = 1 << 2, "Flux, errors, E(B-V) or covariance of the star cannot be used: its results are NaN."
    NO_CONVERGENCE = 1 << 3, "A further step would still lower chi2."


@dataclasses.dataclass(frozen=True)
class Release:
    """A Gaia data release: which photometers (XP), and how many basis functions each spectrum has.

    Every size in xpjax comes from here: Gaia DR3 has 55 + 55; later releases may have others.
    """

    name: str
    n_basis: tuple[int, ...]
    xp: tuple[str, ...] = ("bp", "rp")

    def __post_init__(self) -> None:
        if len(self.n_basis) != len(self.xp) or min(self.n_basis) < 1:
            raise XpjaxError(f"release {self.name!r} needs one positive n_basis for each of {self.xp}: {self.n_basis}")

    @property
    def n_basis_total(self) -> int:
        """Number of coefficients of a source."""
        return sum(self.n_basis)

    @property
    def n_pair(self) -> tuple[int, ...]:
        """Number of correlations (strict lower triangle) for each XP."""
        return tuple(n * (n - 1) // 2 for n in self.n_basis)

    @property
    def n_pair_total(self) -> int:
        """Number of correlations of a source."""
        return sum(self.n_pair)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where each XP's coefficients lie in the joined vector."""
        return _slices(self.n_basis)

    @property
    def pair_slices(self) -> tuple[slice, ...]:
        """Where each XP's correlations lie in the joined packed vector."""
        return _slices(self.n_pair)


def _slices(sizes: Sequence[int]) -> tuple[slice, ...]:
    stops = np.cumsum([0, *sizes])
    return tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(stops))


DR3 = Release("Gaia DR3", (55, 55))
"""Gaia Data Release 3 (2022): 55 BP and 55 RP coefficients."""


class XPCoefficients(eqx.Module):
    """Coefficients of one source, or of many on a leading axis; NumPy on the host, JAX in kernels.

    An XP that is missing has NaN coefficients. `correlation` holds, for each XP in turn, the strict lower triangle
    row by row, as the archive does. `error` and `correlation` are None where the input has none: errors are then
    absent, never guessed. `error` already holds the standard deviation of the fit (De Angeli et al. 2023).
    """

    value: Float[AnyArray, "*batch n_basis_total"]
    error: Float[AnyArray, "*batch n_basis_total"] | None = None
    correlation: Float[AnyArray, "*batch n_pair_total"] | None = None
    n_relevant: Int[AnyArray, "*batch n_xp"] | None = None
    release: Release = eqx.field(static=True, default=DR3)

    def __check_init__(self) -> None:
        expected = {
            "value": self.release.n_basis_total,
            "error": self.release.n_basis_total,
            "correlation": self.release.n_pair_total,
            "n_relevant": len(self.release.xp),
        }
        batch = np.shape(self.value)[:-1]
        for name, size in expected.items():
            array = getattr(self, name)
            if isinstance(array, list | tuple):
                raise XpjaxError(f"{name} must be an array (n, {size}), not a {type(array).__name__}: numpy.asarray it")
            if not hasattr(array, "shape"):
                continue
            if array.shape != (*batch, size):
                raise XpjaxError(
                    f"{name} has shape {array.shape}, expected {(*batch, size)}: {self.release.name} has "
                    f"{self.release.n_basis} basis functions for {self.release.xp}; pass release= for another one"
                )


class Record:
    """A dataclass on the host whose repr has the shapes of its arrays, where dataclasses print every number."""

    def __repr__(self) -> str:
        shown = [f"{f.name}={_shown(getattr(self, f.name))}" for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        line, name = ", ".join(shown), type(self).__name__
        return f"{name}({line})" if len(line) < 100 else f"{name}(\n    " + ",\n    ".join(shown) + "\n)"


def _shown(value: Any) -> str:
    """Arrays by type and shape, mappings by their first names, records by class, all else as it is if it is short."""
    few, longest = 12, 80
    if isinstance(value, np.ndarray) and value.ndim:
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    if isinstance(value, Mapping | tuple):
        names = list(value) if isinstance(value, Mapping) else [_shown(one) for one in value[:few]]
        more = [f"and {len(value) - few} more"] * (len(value) > few)
        begin, end = "{}" if isinstance(value, Mapping) else "()"
        return begin + ", ".join(map(str, [*names[:few], *more])) + end
    text = repr(value)
    if len(text) <= longest and "\n" not in text:
        return text
    return f"{type(value).__name__}(...)" if dataclasses.is_dataclass(value) else text[:longest] + "..."


@dataclasses.dataclass(frozen=True, repr=False)
class SourceTable(Record):
    """Sources on the host, as read: ids, coefficients, status bits and every other column of the input.

    source_id (n,) int64, 0 where missing; coefficients with a leading axis n (NumPy); status (n,) uint32;
    columns name -> (n, ...) array; origin names the input in messages.
    """

    source_id: np.ndarray
    coefficients: XPCoefficients
    status: np.ndarray
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    origin: str = "memory"

    def __len__(self) -> int:
        return len(self.source_id)

    @property
    def release(self) -> Release:
        """The data release that the sizes of the coefficients come from."""
        return self.coefficients.release

    def __getitem__(self, rows: int | slice | np.ndarray) -> SourceTable:
        """Some of the sources; one where rows is a number."""
        if isinstance(rows, int | np.integer):
            rows = np.array([rows])

        def pick(array: Any) -> Any:
            return None if array is None else array[rows]

        c = self.coefficients
        return SourceTable(
            self.source_id[rows],
            XPCoefficients(pick(c.value), pick(c.error), pick(c.correlation), pick(c.n_relevant), c.release),
            self.status[rows],
            {name: column[rows] for name, column in self.columns.items()},
            self.origin,
        )


MAGNITUDES = ("AB", "ST", "Vega")
"""Magnitude systems; AB has fluxes per hertz, the others per nanometre."""
DETECTORS = ("photon", "energy")
"""What a detector counts: photons (CCD, CMOS) or energy (bolometers, and curves with 1/lambda folded in)."""


@dataclasses.dataclass(frozen=True)
class Passband:
    """A transmission curve: wavelength (n,) ascending [nm], transmission (n,) in 0..1, and how magnitudes are counted.

    detector "photon" or "energy"; magnitude "AB", "ST" or "Vega"; zero_point [mag] replaces that of the magnitude
    system (for mean fluxes in W m-2 Hz-1 with AB, W m-2 nm-1 otherwise); meta holds kind (measured, recovered,
    computed, stand-in), source, reference and licence. wavelength and transmission may be astropy Quantities or columns
    with units of length and of fractions, such as percent; descending curves are turned round. Raises XpjaxError for
    curves that cannot be integrated and for masked samples, saying which sample and what to do.
    """

    name: str
    wavelength: np.ndarray
    transmission: np.ndarray
    detector: str = "photon"
    magnitude: str = "AB"
    zero_point: float | None = None
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or any(c.isspace() or c in "/\\,:" for c in self.name):
            raise XpjaxError(f"passband name {self.name!r}: give a name without spaces, commas, colons and slashes")
        for value, known, what in ((self.detector, DETECTORS, "detector"), (self.magnitude, MAGNITUDES, "magnitude")):
            if value not in known:
                raise XpjaxError(f"passband {self.name}: {what} {value!r} is not one of {known}")
        if self.zero_point is not None and not np.isfinite(self.zero_point):
            raise XpjaxError(f"passband {self.name}: zero point {self.zero_point} is not finite")
        wavelength = _samples(self.wavelength, "nm", f"passband {self.name}: wavelength")
        transmission = _samples(self.transmission, "", f"passband {self.name}: transmission")
        if len(wavelength) > 1 and wavelength[0] > wavelength[-1]:
            wavelength, transmission = wavelength[::-1].copy(), transmission[::-1].copy()
        _check_curve(self.name, wavelength, transmission)
        for array in (wavelength, transmission):
            array.flags.writeable = False
        object.__setattr__(self, "wavelength", wavelength)
        object.__setattr__(self, "transmission", transmission)

    def __repr__(self) -> str:
        span = f"{self.wavelength[0]:g}..{self.wavelength[-1]:g} nm in {len(self.wavelength)} samples"
        own = "" if self.zero_point is None else f", zero point {self.zero_point:g}"
        return f"Passband({self.name!r}, {span}, {self.detector}, {self.magnitude}{own})"

    @property
    def flux_unit(self) -> str:
        """Unit of mean fluxes through the passband."""
        return "W m-2 Hz-1" if self.magnitude == "AB" else "W m-2 nm-1"


def _samples(values: Any, unit: str, what: str) -> np.ndarray:
    """A new array of floats in a unit. Raises XpjaxError for masked samples, and for units of another kind."""
    mask = getattr(values, "mask", False)  # which is a method of pandas
    if isinstance(mask, np.ndarray | np.bool_) and np.any(mask):
        raise XpjaxError(f"{what} of sample {np.flatnonzero(mask)[0] + 1} is masked; drop the sample or fill it")
    try:
        return np.array(in_unit(values, unit, what), float)
    except (TypeError, ValueError) as exc:
        if isinstance(exc, XpjaxError):
            raise
        raise XpjaxError(f"{what} is no list of numbers ({exc}); convert it first") from exc


def _check_curve(name: str, wavelength: np.ndarray, transmission: np.ndarray) -> None:
    """ValueError, with the remedy, for a transmission curve that is no curve."""
    where = f"passband {name}"
    if wavelength.ndim != 1 or wavelength.shape != transmission.shape or len(wavelength) < 2:
        raise XpjaxError(
            f"{where}: wavelength and transmission must be two lists of equal length, found shapes "
            f"{wavelength.shape} and {transmission.shape}"
        )
    for what, array in (("wavelength", wavelength), ("transmission", transmission)):
        bad = np.flatnonzero(~np.isfinite(array))
        if len(bad):
            raise XpjaxError(f"{where}: {what} of sample {bad[0] + 1} is {array[bad[0]]}; drop the row or mend it")
    bad = np.flatnonzero(np.diff(wavelength) <= 0)
    if len(bad):
        k = bad[0]
        raise XpjaxError(
            f"{where}: the wavelengths are not monotonic: sample {k + 1} is {wavelength[k]:g} nm, sample {k + 2} "
            f"{wavelength[k + 1]:g} nm; sort the rows and drop repeated ones"
        )
    if wavelength[0] <= 0:
        raise XpjaxError(f"{where}: wavelength {wavelength[0]:g} nm is not positive")
    if transmission.min() < 0:
        k = int(transmission.argmin())
        raise XpjaxError(
            f"{where}: transmission {transmission[k]:g} at {wavelength[k]:g} nm is negative; read it with "
            f"{say('clip=True', '--clip')} to set negative samples to zero"
        )
    if transmission.max() > 1:
        k = int(transmission.argmax())
        raise XpjaxError(
            f"{where}: transmission {transmission[k]:g} at {wavelength[k]:g} nm is above one; divide percent by 100, "
            f"or read it with {say('normalize=True', '--normalize')} to divide by the peak"
        )
    if transmission.max() == 0:
        raise XpjaxError(f"{where}: the transmission is zero everywhere")


@dataclasses.dataclass(frozen=True)
class PassbandSet:
    """Passbands side by side under one label: columns of results are called {label}_mag_{name}.

    `passbands["g"]` is one of them, `passbands[["g", "r"]]` a set of some; iterable. Raises ValueError for repeated
    names or none.
    """

    label: str
    passbands: tuple[Passband, ...]
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "passbands", tuple(self.passbands))
        if not self.label or any(c.isspace() or c in "/\\,:" for c in self.label):
            raise XpjaxError(f"label {self.label!r}: give one without spaces, commas, colons and slashes")
        if not self.passbands:
            raise XpjaxError(f"{self.label} has no passbands")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise XpjaxError(f"{self.label} has passbands of the same name: {twice}; rename or drop one")

    def __repr__(self) -> str:
        return f"PassbandSet({self.label!r}, {', '.join(self.names)})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the passbands."""
        return tuple(p.name for p in self.passbands)

    def __len__(self) -> int:
        return len(self.passbands)

    def __iter__(self) -> Iterator[Passband]:
        return iter(self.passbands)

    @overload
    def __getitem__(self, name: str) -> Passband: ...

    @overload
    def __getitem__(self, name: list[str] | tuple[str, ...]) -> PassbandSet: ...

    def __getitem__(self, name: str | list[str] | tuple[str, ...]) -> Passband | PassbandSet:
        if not isinstance(name, str):
            return dataclasses.replace(self, passbands=tuple(self[n] for n in name))
        if name not in self.names:
            raise KeyError(f"{self.label} has no passband {name!r}; it has {list(self.names)}")
        return self.passbands[self.names.index(name)]


@dataclasses.dataclass(frozen=True, repr=False)
class Catalogue(Record):
    """A table ready to be written: what the command line writes and what results give as `.catalogue()`.

    columns name -> (n,) or (n, k) array, in order; units and descriptions by column name (absent: none);
    shared name -> array stored once for all rows (`wavelength`); meta name -> str, number, bool or list of them.
    """

    columns: Mapping[str, np.ndarray]
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    descriptions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shared: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def with_columns(self, more: Mapping[str, np.ndarray], last: Mapping[str, np.ndarray]) -> Catalogue:
        """The catalogue with columns passed on by the user, then the last ones. Raises ValueError for a name twice."""
        taken = {name.lower() for name in (*self.columns, *last, *self.shared)}
        twice = [name for name in more if name.lower() in taken]
        if twice:
            raise XpjaxError(f"cannot keep columns {twice}: the output has columns of these names; rename or drop them")
        return dataclasses.replace(self, columns={**self.columns, **more, **last})
