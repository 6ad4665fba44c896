"""Passbands by name, from files, or from a telescope's description; and the curves of published systems."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from xpjax.core.constants import VEGA_FLUX
from xpjax.core.errors import XpjaxError, say
from xpjax.core.types import PathLike
from xpjax.synthetic.chain import TransmissionChain
from xpjax.synthetic.chain_file import read_chain
from xpjax.synthetic.files.passband_files import find_passbands, read_passbands, read_spectrum
from xpjax.synthetic.passband import Passband, PassbandSet
from xpjax.synthetic.published import published_name
from xpjax.synthetic.system import PhotometricSystem

AnyPassbands: TypeAlias = PathLike | Sequence[PathLike] | Passband | PassbandSet | TransmissionChain
"""Curves of bands, as `load_passbands` takes them."""


def load_passbands(
    source: AnyPassbands,
    *,
    unit: str | None = None,
    detector: str | None = None,
    magnitude: str | None = None,
    clip: bool = False,
    normalize: bool = False,
    names: Sequence[str] | None = None,
    label: str | None = None,
    parameters: Mapping[str, float] | None = None,
    zero_points: Sequence[float] | None = None,
    vega_spectrum: PathLike | None = None,
    meta: Mapping[str, object] | None = None,
) -> PassbandSet:
    """Load passbands by the name of a shipped set, from files, or from a transmission chain.

    Parameters
    ----------
    source : str, path, list of paths, Passband, PassbandSet or TransmissionChain
        A shipped name in any case (`xpjax.synthetic.list_passbands`), some of its bands as in `JPLUS:gJPLUS,rJPLUS`;
        the file of a curve, a list of these, or a folder; the TOML file of a chain, or a folder with a `system.toml`;
        passbands, as they are.
    unit : str, optional
        Unit of wavelengths in files that state none; by default guessed from the range.
    detector : {"photon", "energy"}, optional
        What the detector counts, in place of what files say.
    magnitude : {"AB", "ST", "Vega"}, optional
        Magnitude system, in place of what files say; a zero point stays with its magnitude system.
    clip : bool
        Set negative transmissions to zero.
    normalize : bool
        Divide each curve by its peak.
    names : sequence of str, optional
        Other names of the bands, in order.
    label : str, optional
        Another label of the set: columns of results are called `{label}_mag_{name}`.
    parameters : mapping of str to float, optional
        Other values of a chain's parameters, such as `{"airmass": 1.5}`.
    zero_points : (n_band,) sequence of float, optional [mag]
        Zero points of the bands, in order.
    vega_spectrum : path, optional
        File of a spectrum of alpha Lyr: magnitudes become Vega magnitudes, with zero points from this spectrum scaled
        to 3.62286e-11 W m-2 nm-1 at 550 nm (Riello et al. 2021, A&A 649 A3).
    meta : mapping of str to str, optional
        What is known of the curves besides, such as kind, source, reference and license.

    Returns
    -------
    PassbandSet
        The bands, with wavelengths in nm.

    Raises
    ------
    XpjaxError
        If a name or file is unknown or not understood, or options do not go with each other.

    Examples
    --------
    >>> xpjax.load_passbands("sdss2010:g,r")
    PassbandSet('sdss2010', g, r)
    >>> xpjax.load_passbands("minisitian", parameters={"airmass": 2.0}, label="low")["g"]
    Passband('g', 320..1060 nm in 741 samples, photon, AB)
    """
    if vega_spectrum is not None and (zero_points or magnitude not in (None, "Vega")):
        asked = say("vega_spectrum=", "--vega-spectrum")
        out = say("magnitude= and zero_points=", "--magnitude, --zero-points")
        raise XpjaxError(f"{asked} derives zero points of Vega magnitudes; leave out {out}")
    given = {"unit": unit, "detector": detector, "magnitude": magnitude, "clip": clip, "normalize": normalize}
    reading = {name: value for name, value in given.items() if value}
    made = _loaded(source, parameters or {}, reading)
    bands = _renamed(list(made), names)
    if zero_points:
        _check_count(bands, zero_points, say("zero_points=", "--zero-points"), "numbers")
        bands = [dataclasses.replace(band, zero_point=float(zp)) for band, zp in zip(bands, zero_points, strict=True)]
    if meta:
        bands = [dataclasses.replace(band, meta={**band.meta, **meta}) for band in bands]
    if vega_spectrum is not None:
        bands = _with_vega(bands, vega_spectrum)
    return dataclasses.replace(made, label=label or made.label, passbands=tuple(bands))


def _loaded(source: Any, parameters: Mapping[str, float], reading: dict[str, Any]) -> PassbandSet:
    """The passbands of a source, as they are called there. Raises XpjaxError for options that do not go with it."""
    if isinstance(source, list | tuple) and len(source) == 1:
        (source,) = source
    if isinstance(source, Passband | PassbandSet):
        _refuse_parameters(source, parameters)
        return source if isinstance(source, PassbandSet) else PassbandSet(source.name, (source,))
    if isinstance(source, TransmissionChain):
        return source.with_parameters(**parameters).passbands()
    if isinstance(source, list | tuple):
        for one in source:
            if chain_file(one) is not None:
                raise XpjaxError(f"{one} is a transmission chain; build it by itself")
            if os.path.isdir(os.path.expanduser(one)):
                raise XpjaxError(f"{one} is a folder; give one folder by itself, or files")
        _refuse_parameters(source[0] if source else source, parameters)
        return read_passbands(source, **reading)
    described = chain_file(source)
    stem, wanted = split_bands(source)
    if described is None:
        _refuse_parameters(source, parameters)
        made = read_passbands(find_passbands(stem), **reading)
    else:
        if reading:
            options = ", ".join(say(f"{name}=", f"--{name}") for name in reading)
            raise XpjaxError(f"{options}: for curves, and {source} describes a chain; change it there")
        made = read_chain(described).with_parameters(**parameters).passbands()
    unknown = [name for name in wanted if name not in made.names]
    if unknown:
        raise XpjaxError(f"{made.label} has no passband {unknown[0]!r}; it has {list(made.names)}")
    return made[wanted] if wanted else made


def _refuse_parameters(source: Any, parameters: Mapping[str, float]) -> None:
    if parameters:
        option = say("parameters=", "--set")
        raise XpjaxError(f"{option} changes a transmission chain, and {source} is none; give the TOML file of one")


def split_bands(source: PathLike) -> tuple[str, list[str]]:
    """NAME:band,band as the name and the bands; a path that exists is no such thing."""
    stem, _, wanted = str(source).partition(":")
    if not wanted or os.path.exists(os.path.expanduser(source)):
        return str(source), []
    return stem, [name.strip() for name in wanted.split(",")]


def chain_file(source: PathLike) -> Path | None:
    """The TOML file of the chain that a source means; None where it means curves. Raises XpjaxError for neither."""
    path = find_passbands(split_bands(source)[0])
    described = path / "system.toml" if path.is_dir() else path
    return described if described.suffix.lower() == ".toml" and described.is_file() else None


def _renamed(bands: list[Passband], names: Sequence[str] | None) -> list[Passband]:
    if not names:
        return bands
    names = [names] if isinstance(names, str) else names
    _check_count(bands, names, say("names=", "--names"), "names")
    return [dataclasses.replace(band, name=name) for band, name in zip(bands, names, strict=True)]


def _check_count(bands: list[Passband], values: Sequence[Any], option: str, what: str) -> None:
    if len(values) != len(bands):
        names = [band.name for band in bands]
        raise XpjaxError(f"{option} gives {len(values)} {what} for the {len(bands)} bands {names}")


def _with_vega(passbands: Iterable[Passband], spectrum: PathLike) -> list[Passband]:
    """The passbands with Vega magnitudes whose zero points come from a spectrum of alpha Lyr."""
    wavelength, flux = read_spectrum(spectrum)
    source = f"{Path(spectrum).name}, scaled to {VEGA_FLUX:g} W m-2 nm-1 at 550 nm"
    bands = []
    for band in passbands:
        meta = {**band.meta, "zero_point_from": source}
        vega = dataclasses.replace(band, magnitude="Vega", zero_point=None, meta=meta)
        bands.append(dataclasses.replace(vega, zero_point=vega.vega_zero_point(wavelength, flux)))
    return bands


def curves_of(system: PhotometricSystem, given: Iterable[PassbandSet] = ()) -> tuple[Passband, ...]:
    """The curve of every band of a system: from given passbands, else the recovered ones of published systems.

    Raises XpjaxError where there is none.
    """
    known = {chosen.label: chosen for chosen in given}
    curves = []
    for label, name in zip(system.labels, system.names, strict=True):
        try:
            if label not in known:
                known[label] = load_passbands(published_name(label) or label)
            curves.append(known[label][name])
        except (ValueError, OSError, KeyError) as error:
            raise XpjaxError(f"{label} {name} has no transmission curve: {error}") from None
    return tuple(curves)
