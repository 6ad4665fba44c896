"""Transmission chains from a short TOML file.

    name = "MyTelescope"; magnitude = "AB"; detector_type = "photon"; wavelength = [320, 1060, 1]
    [atmosphere]                  # leave the section out in space
    site = "xinglong"             # components/sites, or a file: wavelength, mag/airmass
    airmass = 1.2
    water = 5.0                   # mm; also ozone [DU], aerosol, angstrom, altitude [m], pressure [hPa]
    oxygen = true                 # bands of O2
    [[optics]]
    curve = "aluminium"           # components/optics, or a file
    count = 2
    [[optics]]
    name = "corrector"
    value = 0.92
    [detector]
    curve = "imx455"              # components/detectors, or a file; also slope, the relative change per 100 nm
    [filter.g]
    curve = "g.ecsv"              # also shift [nm] and scale

A name without suffix is a component of the filters folder, anything else a path relative to the TOML file, in any
format of passband files; unit = "angstrom" beside it for a text whose header does not name one.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.shipped import filters_folder, shipped_passbands
from xpjax.synthetic.atmosphere import RANGES, SEA_LEVEL, Atmosphere, SiteCurve, pressure
from xpjax.synthetic.chain import KINDS, Curve, Element, TransmissionChain, near
from xpjax.synthetic.files.passband_files import read_curve

LOST = 1e-3
"""Part of a filter that may lie outside the wavelengths of its chain."""

_META = ("description", "source", "reference", "license")
_TOP = ("name", "magnitude", "detector_type", "wavelength", *_META, "atmosphere", "optics", "detector", "filter")
_ATMOSPHERE = ("site", "unit", "altitude", *RANGES)
_OPTICS = ("name", "curve", "unit", "value", "count")
_DETECTOR_KEYS = ("curve", "unit", "value", "slope")
_FILTER_KEYS = ("curve", "unit", "shift", "scale")


def read_chain(path: str | Path) -> TransmissionChain:
    """Read a transmission chain from its TOML file.

    Parameters
    ----------
    path : str or path
        The TOML file, a folder with a `system.toml`, or the name of a shipped chain such as `minisitian`.

    Returns
    -------
    TransmissionChain
        Atmosphere, optics, detector and filters, on the wavelengths of the file.

    Raises
    ------
    XpjaxError
        If a key is unknown or missing, a file is not there, a curve does not cover the wavelengths, or a value is out
        of range; the message has the file, the key and the remedy.

    Examples
    --------
    >>> chain = xpjax.synthetic.read_chain("minisitian")
    >>> chain
    TransmissionChain('MiniSiTian', bands g, r, i, 320..1060 nm)
    >>> float(chain.parameters["airmass"])
    1.2
    """
    path = Path(path)
    if not path.suffix and not path.exists() and str(path) in shipped_passbands():
        path = shipped_passbands()[str(path)]
    if (path / "system.toml").is_file():
        path = path / "system.toml"
    try:
        text = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        named = "" if path.suffix else f", or shipped passbands by name: {', '.join(shipped_passbands())}"
        raise XpjaxError(f"{path}: no such file; give the TOML file of a transmission chain{named}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise XpjaxError(f"{path} is not TOML: {error}") from None
    top = _Section(path, "", text, _TOP)
    grid = _grid(top)
    atmosphere = None
    if "atmosphere" in text:
        atmosphere = _atmosphere(_Section(path, "atmosphere", text["atmosphere"], _ATMOSPHERE), grid)
    listed = text.get("optics", [])
    if not isinstance(listed, list):
        raise XpjaxError(f"{path}: write [[optics]] with two brackets, once for each part")
    optics = [_element(_Section(path, "optics", part, _OPTICS), "optics", grid) for part in listed]
    detector = _Section(path, "detector", text.get("detector", {"value": 1.0}), _DETECTOR_KEYS)
    filters = text.get("filter", {})
    if not isinstance(filters, dict) or not filters:
        raise XpjaxError(f"{path}: no filters; add a section [filter.NAME] with curve = FILE for each band")
    sections = [_Section(path, f"filter.{band}", content, _FILTER_KEYS) for band, content in filters.items()]
    made = [_filter_curve(section, grid) for section in sections]
    shift = [section.number("shift", 0.0, -1000, 1000) for section in sections]
    scale = [section.number("scale", 1.0, 0.01, 100) for section in sections]
    counts, slope = _element(detector, "detectors", grid), detector.number("slope", 0.0, -10, 10)
    try:
        return TransmissionChain(
            name=top.text("name"),
            bands=tuple(filters),
            filters=tuple(made),
            wavelength=grid,
            atmosphere=atmosphere,
            optics=tuple(optics),
            detector=counts,
            filter_shift=np.array(shift),
            filter_scale=np.array(scale),
            detector_slope=slope,
            magnitude=top.text("magnitude", "AB"),
            detector_type=top.text("detector_type", "photon"),
            meta=tuple((key, top.text(key)) for key in _META if key in text),
        )
    except ValueError as error:
        raise XpjaxError(f"{path}: {error}") from None


class _Section:
    """A table of the TOML file whose keys and values are refused with the place they stand at."""

    def __init__(self, path: Path, name: str, content: Any, known: Sequence[str]) -> None:
        self.path, self.content = path, content
        self.where = f"{path}: [{name}]" if name else f"{path}:"
        if not isinstance(content, dict):
            raise XpjaxError(f"{self.where} is {content!r}; expected a section of keys, of {sorted(known)}")
        for key in content:
            if key not in known:
                raise XpjaxError(f"{self.where} unknown key {key!r}{near(key, known)}")

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def number(self, key: str, default: float, low: float, high: float) -> float:
        value = self.content.get(key, default)
        return _number(value, low, high, f"{self.where} {key} = {value!r}:")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.content.get(key, default)
        if value is None:
            raise XpjaxError(f'{self.where} the key {key!r} is missing; add {key} = "..."')
        if not isinstance(value, str):
            raise XpjaxError(f"{self.where} {key} = {value!r}: expected text in quotes")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.content.get(key, default)
        if not isinstance(value, bool):
            raise XpjaxError(f"{self.where} {key} = {value!r}: expected true or false")
        return value

    def file(self, key: str, folder: str) -> Path:
        """A component by its name, or a file by its path relative to the TOML file."""
        name = self.text(key)
        if Path(name).suffix or "/" in name:
            found = self.path.parent / name
            if not found.is_file():
                raise XpjaxError(f"{self.where} {key} = {name!r}: no file {found}; paths are relative to the TOML file")
            return found
        place = filters_folder() / "components" / folder
        found = place / f"{name}.ecsv"
        if not found.is_file():
            known = sorted(p.stem for p in place.glob("*.ecsv"))
            raise XpjaxError(
                f"{self.where} {key} = {name!r} is no component{near(name, known)}; a file of your own needs its suffix"
            )
        return found


def _grid(top: _Section) -> np.ndarray:
    """wavelength = [first, last, step] as a grid [nm]."""
    value = top.content.get("wavelength", [320.0, 1060.0, 1.0])
    numbers = isinstance(value, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    if not numbers or len(value) != 3 or not (0 < value[0] < value[1] <= 1e5 and 0 < value[2] <= value[1] - value[0]):
        raise XpjaxError(
            f"{top.where} wavelength = {value!r}: expected [first, last, step] in nm, such as [320, 1060, 1]"
        )
    first, last, step = map(float, value)
    n = math.floor((last - first) / step + 1e-9) + 1
    if n > 1_000_000:
        raise XpjaxError(f"{top.where} wavelength = {value!r} makes {n} samples; take a longer step")
    return first + step * np.arange(n)


def _atmosphere(section: _Section, grid: np.ndarray) -> Atmosphere:
    """[atmosphere]: a site's curve, or the formulas at an altitude."""
    given: dict[str, Any] = {
        name: section.number(name, math.nan, *limits)
        for name, limits in RANGES.items()
        if name in section and name != "oxygen"
    }
    given["oxygen"] = float(section.flag("oxygen", True))
    if "altitude" in section:
        if "pressure" in section:
            raise XpjaxError(f"{section.where} altitude and pressure say the same; give one of them")
        given["pressure"] = pressure(section.number("altitude", 0.0, -500, 10000))
    if "site" not in section:
        if "pressure" not in given:
            raise XpjaxError(f'{section.where} needs site = "NAME", or altitude (or pressure) for the formulas alone')
        return Atmosphere(**given)
    file = section.file("site", "sites")
    wavelength, extinction, meta = _read_curve(section, file, extinction=True)
    _check_cover(section, file, wavelength, grid)
    if extinction.min() < -0.05 or extinction.max() > 50:
        raise XpjaxError(
            f"{section.where} {file} has {extinction.min():g} to {extinction.max():g} mag/airmass; expected "
            "magnitudes, from about 0 to a few"
        )
    limits = {name: RANGES[name] for name in ("pressure", "ozone", "aerosol", "angstrom") if name in meta}
    if "altitude" in meta and "pressure" not in meta:
        limits["altitude"] = (-500, 10000)
    own = {
        name: _number(meta[name], low, high, f"{file}: {name} in the header is {meta[name]!r};")
        for name, (low, high) in limits.items()
    }
    if "altitude" in own:
        own["pressure"] = pressure(own.pop("altitude"))
    # A curve that does not know its altitude is taken at the one given: nothing is added for pressure.
    own.setdefault("pressure", given.get("pressure", SEA_LEVEL))
    return Atmosphere.at_site(SiteCurve(wavelength, extinction, **own), **given)


def _number(value: Any, low: float, high: float, said: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise XpjaxError(f"{said} expected a number from {low:g} to {high:g}")
    return float(value)


def _element(section: _Section, folder: str, grid: np.ndarray) -> Element:
    """[[optics]] or [detector]: a curve or a number."""
    if ("curve" in section) == ("value" in section):
        raise XpjaxError(f"{section.where} needs either curve or value")
    count = section.number("count", 1, 1, 100) if folder == "optics" else 1.0
    if count != int(count):
        raise XpjaxError(f"{section.where} count = {count:g}: expected a whole number")
    curve = None
    if "curve" in section:
        curve = _transmission(section, folder)
        _check_cover(section, section.file("curve", folder), np.asarray(curve.wavelength), grid)
    value = section.number("value", 1.0, 1e-9, 1.0)
    name = "detector"
    if folder == "optics":
        name = section.text("name", Path(section.text("curve")).stem if curve is not None else None)
    return Element(name, curve, value, int(count))


def _transmission(section: _Section, folder: str) -> Curve:
    """The curve of a section, with values from 0 to 1."""
    file = section.file("curve", folder)
    wavelength, values, meta = _read_curve(section, file)
    bad = np.flatnonzero((values < 0) | (values > 1))
    if len(bad):
        k = bad[0]
        raise XpjaxError(
            f"{section.where} {file} has transmission {values[k]:g} at {wavelength[k]:g} nm; expected 0 to 1: divide "
            "percent by 100, set negative samples to zero"
        )
    if values.max() == 0:
        raise XpjaxError(f"{section.where} {file} is zero everywhere")
    kind = meta.get("kind", "measured")
    if kind not in KINDS:
        raise XpjaxError(f"{section.where} {file}: kind {kind!r} in the header; expected one of {KINDS}")
    return Curve(wavelength, values, kind)


def _filter_curve(section: _Section, grid: np.ndarray) -> Curve:
    """The curve of a [filter.NAME], which must lie within the chain's wavelengths."""
    curve = _transmission(section, "filters")
    x, t = np.asarray(curve.wavelength), np.asarray(curve.transmission)
    middle, part = (x[1:] + x[:-1]) / 2, np.diff(x) * (t[1:] + t[:-1]) / 2
    lost = part[(middle < grid[0]) | (middle > grid[-1])].sum() / part.sum()
    if lost > LOST:
        raise XpjaxError(
            f"{section.where} {100 * lost:.2g} % of the filter lies outside the chain's {grid[0]:g} to {grid[-1]:g} "
            "nm: widen wavelength = [first, last, step], or cut the curve"
        )
    return curve


def _check_cover(section: _Section, file: Path, wavelength: np.ndarray, grid: np.ndarray) -> None:
    """A curve must reach over the grid: only filters may be taken as zero beyond their ends."""
    if wavelength[0] > grid[0] or wavelength[-1] < grid[-1]:
        raise XpjaxError(
            f"{section.where} {file} covers {wavelength[0]:g} to {wavelength[-1]:g} nm, the chain {grid[0]:g} to "
            f"{grid[-1]:g}: lengthen the curve or shorten wavelength = [first, last, step]"
        )


def _read_curve(
    section: _Section, file: Path, extinction: bool = False
) -> tuple[np.ndarray, np.ndarray, Mapping[str, Any]]:
    """Wavelength (n,) [nm] ascending, values (n,) and header of a file; text without a unit is in nm."""
    unit = section.text("unit") if "unit" in section else None
    if unit is not None and file.suffix.lower() == ".ecsv":
        raise XpjaxError(f"{section.where} unit = {unit!r}: {file} states its own unit; drop the key")
    try:
        wavelength, values, meta = read_curve(file, extinction=extinction, unit=unit)
    except ValueError as error:
        raise XpjaxError(f"{section.where} {error}") from None
    guessed = meta.get("wavelength_unit_guessed", "nm")
    if guessed != "nm":
        raise XpjaxError(
            f'{section.where} {file} looks as if in {guessed}: add unit = "{guessed.lower()}", or "nm" if it is so'
        )
    return wavelength, values, meta
