"""Maps of reddening that a user has, read by dustmaps (extra `[dust]`): values, errors, and what is not there.

    E(B-V) on SFD's scale = factor * value of the map,  E(B-V) as stars have it = SF11 E(B-V) on SFD's scale

`AV_PER_SFD` belongs to SFD's scale, R_V = 3.1 to the other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, install, say
from xpjax.extinction.laws import AV_PER_SFD, R_V
from xpjax.io.streams import reading

SF11 = 0.86
"""E(B-V) of stars per E(B-V) of the map of Schlegel, Finkbeiner & Davis (Schlafly & Finkbeiner 2011, ApJ 737, 103)."""
SFD_ERROR = 0.16
"""Relative error of the map of Schlegel, Finkbeiner & Davis (1998, ApJ 500, 525)."""
SCALES = {"sfd": (1.0, AV_PER_SFD), "true": (SF11, R_V)}
"""Scales, that of SFD's map, which fits and networks expect, and that of stars: factor to SFD's, A_V/E(B-V)."""

Answer = tuple[np.ndarray, np.ndarray]
"""Value and error (n,) of a map, on its own scale."""


@dataclasses.dataclass(frozen=True)
class DustMap:
    """A map: what it is, its files under dustmaps' folder, how large they are, how dustmaps fetches and reads it.

    factor: E(B-V) on SFD's scale per unit of the map; ask(paths, coordinates): value and error; distance: whether
    reddening depends on it.
    """

    title: str
    folder: str
    files: tuple[str, ...]
    size: str
    fetch: str
    factor: float
    ask: Callable[[list[Path], Any], Answer]
    distance: bool = False


def _sfd(paths: list[Path], where: Any) -> Answer:
    from dustmaps.sfd import SFDQuery

    value = np.asarray(SFDQuery(str(paths[0].parent))(where), float)
    return value, SFD_ERROR * np.abs(value)


def _csfd(paths: list[Path], where: Any) -> Answer:
    from dustmaps.csfd import CSFDQuery

    return _without_error(CSFDQuery(*map(str, paths))(where))


def _planck(paths: list[Path], where: Any) -> Answer:
    from dustmaps.planck import PlanckQuery

    return _without_error(PlanckQuery(str(paths[0]))(where))


def _gnilc(paths: list[Path], where: Any) -> Answer:
    from dustmaps.planck import PlanckGNILCQuery

    found = PlanckGNILCQuery(str(paths[0]), load_errors=True)(where)
    return np.asarray(found["EBV"], float), np.asarray(found["EBV_err"], float)


def _bayestar(paths: list[Path], where: Any) -> Answer:
    """Median and scatter of the samples; no error where the map does not trust itself at this distance."""
    from dustmaps.bayestar import BayestarQuery

    samples, flags = BayestarQuery(str(paths[0]))(where, mode="samples", return_flags=True)
    trusted = flags["converged"] & flags["reliable_dist"]
    samples = np.asarray(samples, float)
    return np.median(samples, axis=1), np.where(trusted, np.std(samples, axis=1, ddof=1), np.nan)


def _without_error(value: Any) -> Answer:
    value = np.asarray(value, float)
    return value, np.full(value.shape, np.nan)


MAPS = {
    "sfd": DustMap(
        "Schlegel, Finkbeiner & Davis (1998)", "sfd", ("SFD_dust_4096_ngp.fits", "SFD_dust_4096_sgp.fits"),
        "2 x 67 MB", "import dustmaps.sfd; dustmaps.sfd.fetch()", 1.0, _sfd,
    ),
    "csfd": DustMap(
        "SFD without large-scale structure, Chiang (2023)", "csfd", ("csfd_ebv.fits", "mask.fits"),
        "some 0.5 GB", "import dustmaps.csfd; dustmaps.csfd.fetch()", 1.0, _csfd,
    ),
    "planck": DustMap(
        "Planck Collaboration (2013), from radiance", "planck", ("HFI_CompMap_ThermalDustModel_2048_R1.20.fits",),
        "1.6 GB", "import dustmaps.planck; dustmaps.planck.fetch()", 1 / SF11, _planck,
    ),
    "gnilc": DustMap(
        "Planck Collaboration (2016), GNILC", "planck", ("COM_CompMap_Dust-GNILC-Model-Opacity_2048_R2.01.fits",),
        "0.4 GB", "import dustmaps.planck; dustmaps.planck.fetch(which='GNILC')", 1 / SF11, _gnilc,
    ),
    "bayestar": DustMap(
        "Green et al. (2019), three-dimensional", "bayestar", ("bayestar2019.h5",),
        "some GB", "import dustmaps.bayestar; dustmaps.bayestar.fetch()", 1.0, _bayestar, distance=True,
    ),
}  # fmt: skip
"""Maps by dustmaps' names. Planck's E(B-V) is calibrated on colors of quasars, Bayestar's unit is meant as SFD's."""


def find_map(name: str) -> DustMap:
    """The map of a name, in any case. Raises XpjaxError."""
    found = MAPS.get(name.lower())
    if found is None:
        raise XpjaxError(f"unknown map {name!r}; choose from {', '.join(MAPS)}")
    return found


def look_up(
    ra: np.ndarray, dec: np.ndarray, name: str, distance: np.ndarray | None = None, folder: str | Path | None = None
) -> Answer:
    """E(B-V) and its error (n,) on SFD's scale at positions (n,) [deg], none of them missing; distance (n,) [pc].

    Raises XpjaxError where dustmaps or the map is not there, or a file is damaged.
    """
    dust = find_map(name)
    with _quiet():
        try:
            import dustmaps.std_paths
        except ImportError as error:
            raise XpjaxError(f"E(B-V) from a map needs dustmaps: {install('dust')}") from error
        home = Path(dustmaps.std_paths.data_dir())
    paths = _files(dust, name, home, None if folder is None else Path(folder).expanduser())
    if not len(ra):
        return np.empty(0), np.empty(0)
    from astropy import units
    from astropy.coordinates import SkyCoord

    far = {} if distance is None else {"distance": distance * units.pc}
    where = SkyCoord(ra * units.deg, dec * units.deg, **far)
    with reading(paths[0], f"the map {name}"), _quiet():
        value, sigma = dust.ask(paths, where)
    return value * dust.factor, sigma * dust.factor


def _files(dust: DustMap, name: str, home: Path, folder: Path | None) -> list[Path]:
    """The files of a map in a folder of the user's, or where dustmaps keeps them. Raises XpjaxError."""
    places = [home / dust.folder] if folder is None else [folder, folder / dust.folder]
    for place in places:
        if all((place / file).is_file() for file in dust.files):
            return [place / file for file in dust.files]
    raise XpjaxError(
        f"the map {name} is not in {places[0]}: expected {' and '.join(dust.files)} ({dust.size}); download it by "
        f'`python -c "{dust.fetch}"`, or name the folder that has it by {say("folder=", "--map-dir")}. dustmaps keeps '
        f'its maps in {home}; to keep them elsewhere: `python -c "from dustmaps.config import config; '
        "config['data_dir'] = 'FOLDER'\"`"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what dustmaps prints and warns of while it loads."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
