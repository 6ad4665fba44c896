"""What readers of libraries share: their records, limits of labels, and wavelengths in nm and in vacuum."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.units import in_unit

MEDIA = ("vacuum", "air")
FLUXES = ("wavelength", "frequency")
"""What a flux is per."""
UNITS = {"teff": "K", "logg": "dex", "mh": "dex"}
PLAUSIBLE = (10.0, 1e5)
"""Wavelengths [nm] that spectra of stars have, but for a few at the ends."""
OPTICAL = (300.0, 1100.0)
"""Wavelengths [nm] of which a library of use here has some."""
Claim = tuple[str, Any]
"""What a file says: in its own words, and as the value of an argument; None for nothing."""
Limits = Mapping[str, Sequence[float | None]]
"""By label: low and high, None where open, and optionally a step from low; models off the steps are left out."""


@dataclasses.dataclass(frozen=True)
class ModelSpectra:
    """Some spectra on one wavelength grid: wavelength (m,) ascending [nm, vacuum], flux (n, m), labels (n, n_label).

    variance (m,) [nm2]: of the profile that the samples are smoothed with already, by bins or by the library's own
    resolution; zero where not known. file: where they come from, for messages.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    labels: np.ndarray
    variance: np.ndarray
    file: Path


Models: TypeAlias = Iterator[ModelSpectra]


class Library:
    """A library of model spectra: names of its labels, and by iteration its `ModelSpectra`, read as they are asked for.

    origin says what it is; files: those that it is read from; `checksum()` of these files; `found()`: the labels that
    the models read so far have. Iteration raises XpjaxError for two models with the same labels.
    """

    def __init__(self, names: Sequence[str], files: Sequence[Path], origin: str, read: Callable[[], Models]) -> None:
        self.names, self.files, self.origin, self._read = tuple(names), tuple(files), origin, read
        self._models: dict[tuple[float, ...], Path] = {}

    def __iter__(self) -> Models:
        self._models = {}
        for spectra in self._read():
            for row in np.round(spectra.labels, 6) + 0.0:
                if not np.isfinite(row).all() or not dict(zip(self.names, row, strict=True)).get("teff", 1) > 0:
                    raise XpjaxError(
                        f"{spectra.file}: a model has {named(self.names, row)}; expected numbers, teff above zero; "
                        "mend it, or write more of its name into the pattern, so that letters are no sign"
                    )
                first = self._models.get(tuple(row.tolist()))
                if first is not None:
                    files = f"{first} and {spectra.file} have" if first != spectra.file else f"{first}: two models have"
                    raise XpjaxError(
                        f"{files} the same labels, {named(self.names, row)}; take one away, or name the label in which "
                        "they differ"
                    )
                self._models[tuple(row.tolist())] = spectra.file
            yield spectra

    @property
    def n_model(self) -> int:
        """The number of models read so far."""
        return len(self._models)

    def found(self) -> dict[str, tuple[int, float, float]]:
        """By label: the number of different values, the lowest and the highest, of the models read so far."""
        values = [np.unique(x) for x in zip(*self._models, strict=True)]
        return {k: (len(x), float(x[0]), float(x[-1])) for k, x in zip(self.names, values, strict=False)}

    def checksum(self) -> str:
        """SHA-256 of the contents of all files, in order."""
        digest = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
        return digest.hexdigest()


def named(names: Sequence[str], labels: Sequence[float] | np.ndarray) -> str:
    """Labels of a model in words: teff 5000, logg 4.5."""
    return ", ".join(f"{name} {value:g}" for name, value in zip(names, labels, strict=True))


def plain_limits(limits: Mapping[str, Sequence[Any]]) -> dict[str, list[float | None]]:
    """Limits as numbers, in the units of `UNITS`. Raises XpjaxError for Quantities of other kinds."""
    return {
        name: [x if x is None else float(in_unit(x, UNITS.get(name, ""), f"limits of {name}")) for x in limit]
        for name, limit in limits.items()
    }


def check_limits(limits: Limits, names: Sequence[str], what: str, where: str = "") -> None:
    """Raise XpjaxError for limits of labels that a library or a grid does not have."""
    unknown = [name for name in limits if name not in names]
    if unknown:
        raise XpjaxError(f"{where}no label {', '.join(unknown)} to limit; {what} has {', '.join(names)}")


def within(names: Sequence[str], labels: np.ndarray, limits: Limits) -> np.ndarray:
    """Which models (n,) have labels (n, n_label) within the limits and on their steps."""
    kept = np.ones(len(labels), bool)
    for k, name in enumerate(names):
        low, high, step = (*limits.get(name, ()), None, None, None)[:3]
        # Labels in files are rounded: float32, or a few decimals.
        x, margin = labels[:, k], 1e-6 * np.maximum(np.abs(labels[:, k]), 1)
        if low is not None:
            kept &= x >= low - margin
        if high is not None:
            kept &= x <= high + margin
        if step is not None:
            if low is None or not step > 0:
                raise XpjaxError(f"limits of {name}: a step needs a lower limit to start from, and is above zero")
            kept &= np.abs((x - low) / step - np.rint((x - low) / step)) * step <= margin
    return kept


def to_vacuum(wavelength: np.ndarray) -> np.ndarray:
    """Vacuum wavelengths (n,) [nm] of wavelengths (n,) in standard air, above 200 nm (Ciddor 1996, eq. 1)."""
    vacuum = np.asarray(wavelength, float)
    for _ in range(3):  # the index is a function of the wavelength in vacuum, which changes it by 1e-8
        s = 1e6 / vacuum**2
        index = 1 + 0.05792105 / (238.0185 - s) + 0.00167917 / (57.362 - s)
        vacuum = np.where(wavelength > 200, wavelength * index, wavelength)
    return vacuum


def option(name: str, value: Any) -> str:
    """An argument with its value, in the words of whoever called."""
    return say(f"{name}={value!r}", f"--{name.replace('_', '-')} {value}")


def agreed(file: Path, *claims: Claim) -> Any:
    """The value of claims (words, value), None for what says nothing. Raises XpjaxError where two differ, by 1 %."""
    told = [(words, value) for words, value in claims if value is not None]
    for words, value in told[1:]:
        if value != told[0][1] and (isinstance(value, str) or abs(value / told[0][1] - 1) > 0.01):
            raise XpjaxError(
                f"{file}: {told[0][0]} contradicts {words}; find out which is true, and leave out or mend the other"
            )
    return told[0][1] if told else None


def check_choices(medium: str | None, per: str | None) -> None:
    """Raise XpjaxError for a medium, or for what flux is per, that is none of the known ones."""
    for name, value, known in (("medium", medium, MEDIA), ("per", per, FLUXES)):
        if value is not None and value not in known:
            raise XpjaxError(f"{option(name, value)}: expected {' or '.join(known)}")


def agreed_medium(file: Path, silent: str, *claims: Claim) -> str:
    """Where wavelengths are, by what is claimed. Raises XpjaxError where claims differ, or none says it."""
    found = agreed(file, *claims)
    if found is None:
        remedy = say('medium="vacuum" or medium="air"', "--medium vacuum or --medium air")
        raise XpjaxError(f"{file}: {silent} whether wavelengths are in air; pass {remedy}")
    return str(found)


def plausible(wavelength: np.ndarray) -> bool:
    """Whether wavelengths (n,) [nm] can be those of a star's spectrum, but for a tenth of them."""
    with np.errstate(invalid="ignore"):
        return bool(np.mean((wavelength >= PLAUSIBLE[0]) & (wavelength <= PLAUSIBLE[1])) >= 0.9)


def check_plausible(file: Path, what: str, wavelength: np.ndarray) -> None:
    """Raise XpjaxError for wavelengths (n,) [nm] that no star's spectrum has."""
    if not plausible(wavelength):
        raise XpjaxError(
            f"{file}: {what}: {wavelength[0]:g}..{wavelength[-1]:g} nm, expected within 10 nm..100 um; is "
            f"{say('unit=', '--unit')} right, or are they logarithms that the file does not call so?"
        )


def prepared(
    file: Path, wavelength: np.ndarray, flux: np.ndarray, labels: np.ndarray, variance: np.ndarray,
    medium: str = "vacuum", per: str = "wavelength",
) -> ModelSpectra:  # fmt: skip
    """Spectra in vacuum, per wavelength, ascending. Raises XpjaxError for what is no spectrum."""
    wavelength, flux = np.asarray(wavelength, float), np.asarray(flux, float)
    if flux.shape[-1] != len(wavelength) or len(wavelength) < 4:
        raise XpjaxError(f"{file}: {len(wavelength)} wavelengths and {flux.shape[-1]} fluxes; expected as many, over 3")
    if wavelength[0] > wavelength[-1]:
        wavelength, flux, variance = wavelength[::-1], flux[..., ::-1], variance[::-1]
    bad = np.flatnonzero(~(np.diff(wavelength) > 0) | ~(wavelength[:-1] > 0))
    if len(bad):
        k = int(bad[0])
        raise XpjaxError(
            f"{file}: the wavelengths do not ascend: sample {k + 1} is {wavelength[k]:g}, sample {k + 2} "
            f"{wavelength[k + 1]:g}; sort them and drop repeated and missing ones"
        )
    check_plausible(file, "the wavelengths", wavelength)
    row, sample = np.nonzero(~np.isfinite(flux))
    if len(row):
        where = ", ".join(f"{x:g}" for x in labels[row[0]])
        raise XpjaxError(
            f"{file}: the flux of the model ({where}) is {flux[row[0], sample[0]]} at sample {sample[0] + 1}; mend the "
            "file, or take it out of the folder"
        )
    if medium == "air":
        wavelength = to_vacuum(wavelength)
    if per == "frequency":
        flux = flux / wavelength**2
    return ModelSpectra(wavelength, flux, np.asarray(labels, float), variance, file)


def bins(wavelength: np.ndarray) -> np.ndarray:
    """Variance [nm2] of boxes that reach halfway to the neighbors."""
    return np.gradient(wavelength) ** 2 / 12
