"""The passbands of a survey, as the section [passband] names them: a chain, curves in files, or a system by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.core.status import Status
from xpjax.survey import Frames
from xpjax.survey.reading.sections import SurveyPassband
from xpjax.synthetic import (
    Passband,
    PassbandSet,
    TransmissionChain,
    as_system,
    load_passbands,
    load_system,
    photometry,
    published_name,
    read_chain,
)
from xpjax.xp import LinearCorrection, SourceTable


@dataclasses.dataclass(frozen=True, repr=False)
class StarModels(Record):
    """Magnitudes of stars (n_star,) through passbands, from their XP spectra.

    model, model_error, model_systematic (n_star, n_band) [mag]: magnitudes, NaN where a spectrum gives none, their
    errors from the covariances of the coefficients, NaN without these, and the error that the correction of the spectra
    leaves, which similar stars have in common. outside (n_star,): stars for which the correction does not hold.
    """

    star: np.ndarray
    bands: tuple[str, ...]
    model: np.ndarray
    model_error: np.ndarray
    model_systematic: np.ndarray
    outside: np.ndarray


def star_models(
    table: SourceTable, system: Any, correction: LinearCorrection | None = None, *, devices: Devices = None
) -> StarModels:
    """Magnitudes of sources in a system or passbands, as `xpjax.photometry` gives them."""
    bands = as_system(system, correction, release=table.release)
    found = photometry(table, bands, float64=True, devices=devices)
    value = np.asarray(found.magnitude, float)
    none = np.full_like(value, np.nan)
    error = none if found.magnitude_error is None else np.asarray(found.magnitude_error, float)
    systematic = np.zeros_like(value) if found.systematic is None else np.asarray(found.systematic, float)
    bits = np.uint32(Status.OUTSIDE_TRAINING | Status.NOT_CORRECTED)
    outside = (found.status & bits) > 0 if found.distance is not None else np.zeros(len(table), bool)
    return StarModels(np.asarray(table.source_id), bands.names, value, error, systematic, outside)


def open_passband(said: SurveyPassband, folder: Path) -> TransmissionChain | PassbandSet | str:
    """What [passband] names: a chain, curves, or the name of a published system. Raises XpjaxError."""
    if said.chain is not None:
        return survey_chain(said.chain, folder)
    if said.system is not None:
        return said.system if published_name(said.system.partition(":")[0]) else load_passbands(said.system)
    options: dict[str, Any] = {name: getattr(said, name) for name in ("detector", "magnitude", "unit")}
    if isinstance(said.files, Mapping):
        made = [_one(load_passbands(folder / file, names=[name], **options), file) for name, file in said.files.items()]
        return PassbandSet("survey", tuple(made))
    files = said.files if isinstance(said.files, list | tuple) else [said.files]
    if not all(isinstance(file, str | Path) for file in files):
        raise XpjaxError(f'[passband] files = {said.files!r}: expected files by band, as in {{ g = "g.dat" }}')
    return load_passbands([folder / file for file in files], label="survey", **options)


def survey_chain(name: str, folder: Path) -> TransmissionChain:
    """The chain of a file relative to a folder, or a shipped one by its name."""
    path = folder / name
    return read_chain(path if path.exists() or path.suffix else name)


def _one(made: PassbandSet, file: str) -> Passband:
    if len(made) != 1:
        raise XpjaxError(f"[passband] files: {file} has {len(made)} curves, expected one for a band: name it alone")
    return made.passbands[0]


def chosen_bands(passband: TransmissionChain | PassbandSet | str, wanted: Sequence[str]) -> PassbandSet | str:
    """Those of the passbands that are wanted, by their names in it, in the order of the wanted ones."""
    if isinstance(passband, str):
        return f"{passband.partition(':')[0]}:{','.join(wanted)}"
    return (passband.passbands() if isinstance(passband, TransmissionChain) else passband)[list(wanted)]


def names_of(passband: TransmissionChain | PassbandSet | str) -> tuple[str, ...]:
    """The names of all passbands."""
    if isinstance(passband, str):
        return load_system(passband).names
    return tuple(passband.bands) if isinstance(passband, TransmissionChain) else passband.names


def band_names(bands: Sequence[str], said: SurveyPassband, known: Sequence[str], where: str) -> dict[str, str]:
    """The passband of each band of the survey that has one; one alone serves a survey without names of bands.

    Raises XpjaxError where no band has one.
    """
    every = [*dict.fromkeys(bands)]
    out = {band: name for band in every if (name := said.bands.get(band, band)) in known}
    if every == [""] and len(known) == 1:
        out = {"": known[0]}
    if out or not every:
        return out
    if (band := next(filter(None, every), "")) == "":
        raise XpjaxError(
            f"{where} has {len(known)} bands, and the band of the detections has no name: name columns.band, or "
            f'the band, as in columns.bands = ["{known[0]}"]'
        )
    raise XpjaxError(no_passband(band, said.bands.get(band, band), known, where))


def as_called_before(
    frames: Frames, said: SurveyPassband | None, known: Sequence[str], before: Mapping[str, str]
) -> Frames:
    """The frames with those bands as a solution calls them that have its passbands under other names.

    said: what names them here; known: bands of the solution; before: names of their passbands, where they differ.
    """
    if said is None:
        return frames
    own = {before.get(band, band): band for band in known}
    names = [band if band in known else own.get(said.bands.get(band, band), band) for band in frames.band.tolist()]
    return dataclasses.replace(frames, band=np.array(names, np.str_))


def no_passband(band: str, name: str, known: Sequence[str], where: str) -> str:
    """What is to be told of a band whose passband, called `name`, is not among those that there are."""
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    near = next((one for one in known if band.lower() in one.lower()), "NAME")
    return (
        f"{where} has no band {name!r}; it has {listed}: name the one that is meant, as in "
        f'bands = {{ {band} = "{near}" }}'
    )
