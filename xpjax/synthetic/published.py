"""The published photometric systems, and others in files of the same layout."""

from __future__ import annotations

import difflib
import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.paths import release_file
from xpjax.core.release import DR3, Release, find_release, release_of
from xpjax.core.shipped import shipped_passbands
from xpjax.synthetic.files.passband_files import plain_key
from xpjax.synthetic.system import (
    ColorEquation,
    ErrorCorrection,
    PhotometricSystem,
    from_projection,
    select_bands,
    stack,
)
from xpjax.xp import check_release, open_model

G_SYSTEM, G_BAND = "GaiaDr3Vega", "G"
"""The system of Gaia DR3's own photometry, and its band by whose magnitude factors on errors are tabulated."""


def available_systems(path: str | Path | None = None, release: Release | str | None = None) -> tuple[str, ...]:
    """List the names of the published photometric systems.

    Parameters
    ----------
    path : str or path, optional
        Another system file; by default that of the release, with GaiaXPy's systems.
    release : Release or str, optional
        Data release, such as `Gaia DR4`; by default Gaia DR3.

    Returns
    -------
    tuple of str
        Names for `load_system`.

    Raises
    ------
    XpjaxError
        If there are no systems of the release.

    Examples
    --------
    >>> "JPLUS" in xpjax.available_systems()
    True
    """
    return tuple(name for name, _ in _index(_file(path, release)).values())


def load_system(*names: str, path: str | Path | None = None, release: Release | str | None = None) -> PhotometricSystem:
    """Load published photometric systems by name, side by side.

    Parameters
    ----------
    *names : str
        Names as in GaiaXPy (`JPLUS`, `Gaia_DR3_Vega`), in any case; `JPLUS:gJPLUS,rJPLUS` takes some bands; the path of
        an HDF5 file of systems takes all in it.
    path : str or path, optional
        A system file to look names up in; by default that of the release.
    release : Release or str, optional
        Data release of the coefficients, such as `Gaia DR4`; by default Gaia DR3. Its file is one that xpjax ships, or
        `systems_dr4.h5` in the folder that the environment variable XPJAX_DATA names.

    Returns
    -------
    PhotometricSystem
        The bands of all systems, in order.

    Raises
    ------
    XpjaxError
        If a name is not known (close ones are named), the source table of a band is broken, or there are no systems of
        the release.

    Notes
    -----
    Projections, zero points, color equations and factors on errors are those of Montegriffo et al. 2023 (A&A 674 A33),
    as GaiaXPy ships them.

    Examples
    --------
    >>> xpjax.load_system("SDSS", "JPLUS:rJPLUS")
    PhotometricSystem(Sdss: u, g, r, i, z; Jplus: rJPLUS)
    """
    if not names:
        raise XpjaxError(f"name at least one photometric system of {list(available_systems(path, release))}")
    chosen: list[PhotometricSystem] = []
    for name in names:
        if is_system_file(name):
            file = _file(name, release)
            chosen += [_load(file, label) for _, label in _index(file).values()]
        else:
            chosen.append(_select(name, _file(path, release)))
    return stack(chosen)


def is_system_file(name: str) -> bool:
    """Whether a name is that of a file of systems."""
    return name.lower().endswith((".h5", ".hdf5"))


class _File(NamedTuple):
    """A system file, and its time of change, which tells that it is another one now."""

    path: Path
    changed: int


def _file(path: str | Path | None, release: Release | str | None = None) -> _File:
    """The system file that is meant. Raises FileNotFoundError, and XpjaxError where it is for another release."""
    wanted = None if release is None else find_release(release)
    found = Path(path).expanduser() if path is not None else release_file("systems", wanted or DR3)
    if not found.exists():
        raise FileNotFoundError(f"no system file {found}")
    file = _File(found, found.stat().st_mtime_ns)
    check_release(found, _release(file), wanted)
    return file


@functools.lru_cache(maxsize=8)
def _release(file: _File) -> Release:
    with open_model(file.path, "system") as opened:
        return release_of(opened.attrs)


@functools.lru_cache(maxsize=8)
def _index(file: _File) -> dict[str, tuple[str, str]]:
    """Name without case and underscores -> (name, label) of the systems in a file, in its order."""
    with open_model(file.path, "system") as opened:
        pairs = [(str(group.attrs["name"]), label) for label, group in opened.items()]
    return {plain_key(name): (name, label) for name, label in pairs}


def published_name(label: str, release: Release | str | None = None) -> str | None:
    """The published system that a name or label means, in any case, with or without underscores."""
    return _index(_file(None, release)).get(plain_key(label), (None, ""))[0]


def gaia_system(release: Release | str | None = None) -> str:
    """Label of the published system of a release's own G, BP and RP, in Vega magnitudes."""
    with open_model(_file(None, release).path, "system") as file:
        return _gaia_label(file)


def published_source(release: Release | str | None = None) -> str:
    """What the published systems of a release are from, such as GaiaXPy and its version."""
    with open_model(_file(None, release).path, "system") as file:
        return " ".join(str(file.attrs[f"source_{key}"]) for key in ("package", "version"))


def _gaia_label(file: Any) -> str:
    label = str(file.attrs.get("gaia_system", G_SYSTEM))
    if label not in file:
        raise XpjaxError(
            f"{Path(file.filename).name} has no system of Gaia's own photometry ({label}), which this needs; make the "
            "file again (tools/build_instrument.py)"
        )
    return label


def _select(name: str, file: _File) -> PhotometricSystem:
    """One system by its name, or some of its bands after a colon."""
    stem, colon, wanted = name.partition(":")
    if colon and not wanted.strip():
        raise XpjaxError(f"{name!r} names no band after the colon; leave it out for all bands")
    index, key = _index(file), plain_key(stem)
    if key not in index:
        shipped = next((found for found in shipped_passbands() if plain_key(found) == key), None)
        if shipped:
            remedy = say(f"load_passbands({shipped!r})", f"--passbands {shipped}")
            raise XpjaxError(
                f"{stem!r} is no published photometric system of {_release(file).name}, but passbands that are "
                f"shipped: {remedy}"
            )
        close = difflib.get_close_matches(key, index, n=4, cutoff=0.5)
        hint = f"did you mean {', '.join(index[c][0] for c in close)}?" if close else ""
        raise XpjaxError(
            f"unknown photometric system {stem!r} of {_release(file).name}; "
            f"{hint or f'known: {[n for n, _ in index.values()]}'}"
        )
    full = _load(file, index[key][1])
    if not wanted:
        return full
    refused = _refused(file).get(full.labels[0], {})
    return select_bands(full, [band.strip() for band in wanted.split(",")], refused)


@functools.lru_cache(maxsize=8)
def _refused(file: _File) -> dict[str, dict[str, str]]:
    """Bands of each system that are not shipped, and why."""
    with open_model(file.path, "system") as opened:
        return {label: json.loads(group.attrs.get("refused", "{}")) for label, group in opened.items()}


def refused_bands(path: str | Path | None = None, release: Release | str | None = None) -> dict[str, str]:
    """`{label}_{band}` of every band that is refused because its source table is broken, and why."""
    return {f"{s}_{b}": why for s, bands in _refused(_file(path, release)).items() for b, why in bands.items()}


@functools.lru_cache(maxsize=64)
def _load(found: _File, label: str) -> PhotometricSystem:
    """One system of a system file."""
    with open_model(found.path, "system") as file:
        release = release_of(file.attrs)
        group = file[label]
        names = tuple(name.decode() for name in group["band"][()])
        equations = []
        if "color_equation" in group:
            node = group["color_equation"]
            indices = (names.index(str(node.attrs[key])) for key in ("band", "blue", "red"))
            equations.append(ColorEquation.from_powers(node["coefficient"][()], node.attrs["color_range"], *indices))
        correction = None
        if "error_correction" in group:
            correction = _read_correction(group["error_correction"], file[_gaia_label(file)])
        return from_projection(
            group["projection"][()],
            group["zero_point"][()],
            names,
            label,
            release,
            flux_unit=str(group.attrs["flux_unit"]),
            flux_bias=group["flux_bias"][()],
            mean_wavelength=group["mean_wavelength"][()],
            color_equations=tuple(equations),
            error_correction=correction,
            standardized=bool(group.attrs["standardised"]),
            model=str(file.attrs.get("instrument_model", "")),
        )


def _read_correction(node: Any, gaia: Any) -> ErrorCorrection:
    """The factor of each bin holds in its first half, then runs linearly to the next bin's; ends are clamped."""
    g_min, g_max, factor = node["g_min"][()], node["g_max"][()], node["factor"][()]
    g = np.append(np.stack([g_min, 0.5 * (g_min + g_max)], axis=1).ravel(), g_max[-1])
    nodes = np.concatenate([np.repeat(factor, 2, axis=0), factor[-1:]])
    column = list(gaia["band"].asstr()[()]).index(G_BAND)
    vector, zero_point = gaia["projection"][:, column], float(gaia["zero_point"][column])
    scale = 2.0 ** np.round(np.log2(np.abs(vector).max()))
    return ErrorCorrection(g, nodes, vector / scale, np.asarray(zero_point - 2.5 * np.log10(scale)))
