"""What is to be known of passbands before they are used: a table of them, what XP misses of them, what to mend."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.synthetic.chain import KINDS
from xpjax.synthetic.passband import Passband, PassbandSet
from xpjax.synthetic.projection import MOSTLY, passband_system

if TYPE_CHECKING:
    from astropy.table import Table

COARSE = 10.0
"""Steps [nm] longer than this can hide what a filter does between samples."""
FAINT = 0.01
"""A peak, or an end relative to the peak, that makes one doubt a curve."""
NOTABLE = 1e-3
"""A smaller share of a passband outside XP is not worth a line."""


def describe_passbands(passbands: PassbandSet) -> Table:
    """Describe passbands by their wavelengths, widths and how magnitudes are counted.

    Parameters
    ----------
    passbands : PassbandSet
        The passbands.

    Returns
    -------
    astropy.table.Table
        One row for each band: `band`; `mean`, `pivot` and `fwhm` [nm]; `first` and `last` non-zero sample [nm]; `peak`;
        `outside`, the share of the integral outside 330..1050 nm; `detector`; `magnitude`; `zero_point` [mag], NaN
        where a Vega passband has none; `kind`; and, for recovered curves, `residual`.

    Examples
    --------
    >>> table = xpjax.synthetic.describe_passbands(xpjax.load_passbands("sdss2010:g,r"))
    >>> table["mean"].unit, table["fwhm"].round(1).tolist()
    (Unit("nm"), [126.1, 115.3])
    """
    from astropy.table import Table

    rows = [_described(band) for band in passbands]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    if np.isnan(columns["residual"]).all():
        del columns["residual"]
    units = {**dict.fromkeys(("mean", "pivot", "fwhm", "first", "last"), "nm"), "zero_point": "mag"}
    return Table(columns, units=units, meta={"label": passbands.label, **passbands.meta})


def _described(band: Passband) -> dict[str, Any]:
    """The row of a band."""
    try:
        zero_point = band.flux_zero_point
    except XpjaxError:  # Vega magnitudes without one
        zero_point = np.nan
    bright = band.wavelength[np.flatnonzero(band.transmission)]
    residual = band.meta.get("residual")
    return {
        "band": band.name,
        "mean": band.mean_wavelength,
        "pivot": band.pivot_wavelength,
        "fwhm": band.fwhm,
        "first": float(bright[0]),
        "last": float(bright[-1]),
        "peak": float(band.transmission.max()),
        "outside": max(band.share_outside(), band.cut_off),
        "detector": band.detector,
        "magnitude": band.magnitude,
        "zero_point": zero_point,
        "kind": str(band.meta.get("kind", "")),
        "residual": residual if isinstance(residual, float) else np.nan,
    }


def describe_coverage(passbands: PassbandSet, extrapolate: str | None = None) -> list[str]:
    """Describe what XP misses of passbands, and which units of wavelengths were guessed.

    Parameters
    ----------
    passbands : PassbandSet
        The passbands.
    extrapolate : {"none", "linear"}, optional
        As for `passband_system`.

    Returns
    -------
    list of str
        A line for each band of which more than 0.1 % lies outside 330..1050 nm, and for each whose unit was guessed.

    Examples
    --------
    >>> print(*xpjax.synthetic.describe_coverage(xpjax.load_passbands("sdss2010:u"), "linear"))
    sdss2010 u: 7.14 % of the passband lies outside 330..1050 nm: 4.75 % is extrapolated to 322 nm, 2.38 % is missed
    """
    lines = []
    for band in passbands:
        name = f"{passbands.label} {band.name}"
        if band.meta.get("wavelength_unit_guessed"):
            lines.append(f"{name}: the file states no unit of wavelengths, taken to be {_span(band)}")
        if band.cut_off > NOTABLE:
            share = f"{100 * band.cut_off:.2f} %"
            lines.append(
                f"{name}: recovered within 330..1050 nm, {share} of the published band lies outside; "
                "magnitudes are as published, fluxes are means over the part within"
            )
        outside, missed = band.share_outside(), band.share_outside(extrapolate)
        if outside > NOTABLE:
            said = f"{name}: {100 * outside:.2f} % of the passband lies outside 330..1050 nm"
            if missed < outside:
                said += f": {100 * (outside - missed):.2f} % is extrapolated to 322 nm, {100 * missed:.2f} % is missed"
            else:
                said += ", and is missed"
            lines.append(said)
    return lines


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found of a passband: the band, whether photometry refuses it for that, and the words."""

    band: str
    refused: bool
    text: str


@dataclasses.dataclass(frozen=True)
class PassbandCheck:
    """What is odd about passbands.

    Parameters
    ----------
    passbands : PassbandSet
        The passbands that were checked.
    findings : tuple of Finding
        `band`, `refused` (whether `photometry` refuses the band for that) and `text`, in the order of the bands.

    Examples
    --------
    >>> check = xpjax.synthetic.check_passbands(xpjax.load_passbands("minisitian"))
    >>> check.usable, check.findings
    (True, ())
    """

    passbands: PassbandSet
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether photometry takes all passbands."""
        return not any(finding.refused for finding in self.findings)

    def __str__(self) -> str:
        label, n = self.passbands.label, len(self.passbands)
        lines = [f"{label} {found.band}: {'refused: ' * found.refused}{found.text}" for found in self.findings]
        refused = sum(found.refused for found in self.findings)
        remarks = len(self.findings) - refused
        said = f"{refused} refused" if refused else "all can be used"
        said += f", {remarks} remark{'s' * (remarks != 1)}" * bool(remarks)
        return "\n".join([*lines, f"{label}: {n} passband{'s' * (n != 1)}, {said}"])


def check_passbands(passbands: PassbandSet) -> PassbandCheck:
    """Check whether passbands can be used, and what to mend.

    Parameters
    ----------
    passbands : PassbandSet
        The passbands.

    Returns
    -------
    PassbandCheck
        What was found, with remedies; `print` shows it, `usable` sums it up.

    Notes
    -----
    A band is refused for what `passband_system` refuses. Remarks are on light outside 330..1050 nm, steps longer than
    10 nm, unknown kinds, guessed units, peaks below 1 %, and curves that end above 1 % of their peak.

    Examples
    --------
    >>> coarse = xpjax.Passband("v", [500, 550, 600], [0, 0.8, 0])
    >>> print(xpjax.synthetic.check_passbands(xpjax.load_passbands(coarse)))
    v v: a step of 50 nm at 500 nm: what the curve does between is interpolated; find one sampled every 10 nm or finer
    v: 1 passband, all can be used, 1 remark
    """
    return PassbandCheck(passbands, tuple(Finding(band.name, *found) for band in passbands for found in _found(band)))


def _found(band: Passband) -> Iterator[tuple[bool, str]]:
    """Whether photometry refuses a passband for what was found, and the words."""
    try:
        passband_system(band)
    except ValueError as exc:
        yield True, str(exc)
    for remark in (*_odd_kind(band), *_light_outside(band), *_odd_samples(band)):
        yield False, remark


def _odd_kind(band: Passband) -> Iterator[str]:
    kind = band.meta.get("kind")
    if kind is not None and kind not in KINDS:
        remedy = say('load_passbands(..., meta={"kind": ...})', "build it with --meta kind=...")
        yield f"kind {kind!r} is not one of {', '.join(KINDS)}: {remedy}"


def _light_outside(band: Passband) -> Iterator[str]:
    outside, left = band.share_outside(), band.share_outside("linear")
    if NOTABLE < outside <= MOSTLY:
        remedy, option = "fluxes miss that light", say('extrapolate="linear"', "--extrapolate linear")
        if left < 0.9 * outside:
            remedy += f"; {option} leaves {100 * left:.2f} %"
        yield f"{100 * outside:.2f} % lies outside 330..1050 nm, where XP does not see: {remedy}"


def _odd_samples(band: Passband) -> Iterator[str]:
    peak = float(band.transmission.max())
    bright = band.transmission > FAINT * peak
    steps = np.where(bright[1:] | bright[:-1], np.diff(band.wavelength), 0.0)
    k = int(steps.argmax())
    if steps[k] > COARSE * (1 + 1e-9):
        yield (
            f"a step of {steps[k]:g} nm at {band.wavelength[k]:g} nm: what the curve does between is interpolated; "
            f"find one sampled every {COARSE:g} nm or finer"
        )
    if band.meta.get("wavelength_unit_guessed"):
        yield (
            f"the file states no unit of wavelengths, which were taken to be {_span(band)}; if they are not, "
            f"{say('load it with unit=', 'build it with --unit')}"
        )
    if peak < FAINT:
        yield (
            f"the peak is {peak:.2g}: magnitudes do not depend on it, but was the curve divided by 100 twice? "
            f"{say('normalize=True', '--normalize of `xpjax passband build`')} divides by the peak"
        )
    for where, end in (("begins", 0), ("ends", -1)):
        if band.transmission[end] > FAINT * peak:
            yield (
                f"the curve {where} at {band.wavelength[end]:g} nm with {100 * band.transmission[end] / peak:.3g} % of "
                "its peak: what lies beyond is not counted; lengthen the table down to zero"
            )


def _span(band: Passband) -> str:
    return f"{band.wavelength[0]:g}..{band.wavelength[-1]:g} nm"
