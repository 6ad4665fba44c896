"""Photometric systems as the XML files that GaiaXPy loads.

    known = gaiaxpy.load_additional_systems(folder)
    gaiaxpy.generate(sources, photometric_system=known.USER_NAME)

A file NAME.gaiaXPy_dr3_VERSION.xml becomes the member USER_NAME, and its columns USER_NAME_mag_BAND; GaiaXPy 2.1.5
looks for dr3 in the name, whatever the release (dr4 is read too). All files below a folder have one VERSION. There is
no keyword for AB or Vega: fluxes are in the unit that the vectors give them, W m-2 Hz-1 for AB and W m-2 nm-1
otherwise, and magnitudes -2.5 log10(flux) plus the file's zero point. A flux bias is added only where NAME ends in Std.
Color equations and tables of error correction cannot be given (GaiaXPy 2.1.5).
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.io.atomic import check_output, expanded, write_bytes
from xpjax.synthetic.system import PhotometricSystem

VERSION = "xpjax"
PREFIX = "USER_"


def write_gaiaxpy(
    folder: str | os.PathLike[str],
    system: PhotometricSystem,
    *,
    name: str | None = None,
    version: str = VERSION,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Write a photometric system for GaiaXPy, a file for each label; every digit is kept.

    Parameters
    ----------
    folder : str or path
        Folder for the files, made where there is none.
    system : PhotometricSystem
        The bands. Of a linear correction GaiaXPy applies all, also to stars beyond its domain.
    name : str, optional
        Name in place of the label.
    version : str
        Version in the names of the files; all files of a folder have one.
    overwrite : bool
        Replace files that exist.

    Returns
    -------
    dict of str to path
        Name of GaiaXPy's member, `USER_NAME`, and the file.

    Raises
    ------
    XpjaxError
        If GaiaXPy cannot load the system, or would compute it otherwise: color equations, flux biases.

    Examples
    --------
    >>> files = xpjax.synthetic.write_gaiaxpy("for_gaiaxpy", xpjax.load_system("SDSS"))
    >>> list(files)
    ['USER_Sdss']
    """
    folder = expanded(folder)
    release = system.release
    if tuple(release.xp) != ("bp", "rp"):
        raise XpjaxError(f"GaiaXPy knows BP and RP only, not {tuple(release.xp)} of {release.name}")
    if not re.fullmatch(r"[A-Za-z0-9-]+", version):
        raise XpjaxError(f"version {version!r}: GaiaXPy takes letters, digits and hyphens")
    labels = list(dict.fromkeys(system.labels))
    if name is not None and len(labels) > 1:
        raise XpjaxError(f"one name for the systems {labels}: write each by itself")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"the output {folder} is a file; name a folder")
    present = (
        [p for p in folder.rglob("*.xml") if re.search(r"\.gaiaxpy_dr\d+_", p.name.lower())] if folder.is_dir() else []
    )
    others = sorted(p.name for p in present if p.stem.rpartition("_")[2] != version)
    if others:
        raise XpjaxError(
            f"{folder} has files of another version, {others[:3]}, which GaiaXPy does not load beside {version!r}; "
            "name another folder, or that version"
        )
    files = {}
    for label in labels:
        rows = [k for k, own in enumerate(system.labels) if own == label]
        stem = name or label
        _check(stem, system, rows)
        path = folder / f"{stem}.gaiaXPy_dr3_{version}.xml"
        same = [p.name for p in present if p.name.lower() == path.name.lower() and p != path]
        if same:
            raise XpjaxError(f"{folder} has {same[0]}, which differs from {path.name} in case only or lies deeper")
        files[f"{PREFIX}{stem}"] = (path, _xml(system, rows))
    folder.mkdir(parents=True, exist_ok=True)
    for path, _ in files.values():
        check_output(path, overwrite=overwrite)
    for path, data in files.values():
        write_bytes(path, data)
    return {member: path for member, (path, _) in files.items()}


def _check(name: str, system: Any, rows: list[int]) -> None:
    """ValueError for names that GaiaXPy does not find again, and for what its files cannot hold."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or PREFIX in name:
        raise XpjaxError(
            f"{name!r} cannot be the name of a system of GaiaXPy: take letters, digits and _, without {PREFIX!r}; "
            f"give {say('name=', '--name')}"
        )
    for k in rows:
        if not re.match(r"[A-Za-z0-9]", system.names[k]):
            raise XpjaxError(f"band {system.names[k]!r}: GaiaXPy drops bands whose names begin with no letter or digit")
    corrected = [system.names[e.band] for e in system.color_equations if e.band in rows]
    if corrected:
        raise XpjaxError(
            f"{name}: {corrected} have color equations, which GaiaXPy's files cannot hold; leave these bands out"
        )
    standardized = name.lower().endswith("std")
    biased = [system.names[k] for k in rows if np.asarray(system.flux_bias)[k] != 0]
    if biased and not standardized:
        raise XpjaxError(
            f"{name}: {biased} have a flux bias, which GaiaXPy adds only if the name ends in Std: rename it"
        )


def _xml(system: Any, rows: list[int]) -> bytes:
    scale = np.asarray(system.scale, float)[rows]
    projection = np.asarray(system.projection, float)[:, rows] * scale
    # GaiaXPy passes over attributes of the root.
    root = ElementTree.Element("config", {} if system.correction == "none" else {"correction": system.correction})
    bands = ElementTree.SubElement(root, "bands", n=str(len(rows)))
    for k in rows:
        ElementTree.SubElement(bands, "item").text = system.names[k]
    sampling = ElementTree.SubElement(root, "XpSampling")
    release = system.release
    for xp, size, block in zip(release.xp, release.n_basis, release.slices, strict=True):
        _array(sampling, f"{xp}SampledBases", projection[block].T.ravel(), dimension=str(size))
    merge = ElementTree.SubElement(root, "XpMerge")
    _array(merge, "sampleMeanWavelengths", np.asarray(system.mean_wavelength, float)[rows])
    # The vectors already hold the hand-over from BP to RP.
    for xp in release.xp:
        _array(merge, f"{xp}Weights", np.ones(len(rows)))
    _array(root, "fluxBias", np.asarray(system.flux_bias, float)[rows] * scale)
    _array(root, "zeropoints", np.asarray(system.zero_point, float)[rows])
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _array(parent: ElementTree.Element, tag: str, values: np.ndarray, **attributes: str) -> None:
    node = ElementTree.SubElement(parent, tag, attributes)
    for value in values.tolist():
        ElementTree.SubElement(node, "value").text = repr(value)


@dataclasses.dataclass(frozen=True)
class SystemFile:
    """One of GaiaXPy's files: names (n_band,), projection (n_basis_total, n_band), zero point [mag], flux bias.

    n_basis (n_xp,): how many rows of the projection each XP has.
    """

    path: Path
    names: tuple[str, ...]
    projection: np.ndarray
    zero_point: np.ndarray
    flux_bias: np.ndarray
    mean_wavelength: np.ndarray
    n_basis: tuple[int, ...]


def read_gaiaxpy(path: str | os.PathLike[str]) -> SystemFile:
    """Read a photometric system as GaiaXPy does, BP and RP joined with their weights.

    Parameters
    ----------
    path : str or path
        The XML file.

    Returns
    -------
    SystemFile
        `names`, `projection` (n_basis_total, n_band), `zero_point` [mag], `flux_bias`, `mean_wavelength` [nm] and
        `n_basis` of each XP.

    Raises
    ------
    XpjaxError
        If the file is no such system, or damaged.

    Examples
    --------
    >>> files = xpjax.synthetic.write_gaiaxpy("for_gaiaxpy", xpjax.load_system("SDSS"))
    >>> xpjax.synthetic.read_gaiaxpy(files["USER_Sdss"]).names
    ('u', 'g', 'r', 'i', 'z')
    """
    path = expanded(path)
    try:
        root = ElementTree.parse(path).getroot()
        names = tuple(str(item.text) for item in root.findall("bands/item"))
        blocks: list[np.ndarray] = []
        for xp in ("bp", "rp"):
            node = root.find(f"XpSampling/{xp}SampledBases")
            assert node is not None
            block = _values(node).reshape(len(names), int(node.attrib["dimension"])).T
            blocks.append(block * _values(root.find(f"XpMerge/{xp}Weights")))
        zero_point, flux_bias, mean_wavelength = (
            _values(root.find(tag)) for tag in ("zeropoints", "fluxBias", "XpMerge/sampleMeanWavelengths")
        )
    except (ElementTree.ParseError, AssertionError, KeyError, TypeError, ValueError) as error:
        raise XpjaxError(f"{path}: no system file of GaiaXPy, or a damaged one ({error!r})") from error
    if not names or {len(zero_point), len(flux_bias), len(mean_wavelength)} != {len(names)}:
        raise XpjaxError(f"{path}: expected a zero point, a bias and a wavelength for each of its bands {names}")
    n_basis = tuple(len(block) for block in blocks)
    return SystemFile(path, names, np.concatenate(blocks), zero_point, flux_bias, mean_wavelength, n_basis)


def find_gaiaxpy(folder: str | os.PathLike[str]) -> tuple[dict[str, Path], str]:
    """The system files below a folder by their members' names (USER_NAME), and their one version.

    Raises ValueError for no folder, no files, several versions, or a name that is there twice.
    """
    folder = expanded(folder)
    if not folder.is_dir():
        raise XpjaxError(f"{folder} is no folder; expected one with files NAME.gaiaXPy_dr3_VERSION.xml")
    paths = [Path(root, name) for root, _, names in os.walk(folder) for name in names]
    found = [path for path in paths if re.match(r"[a-z0-9_-]+\.gaiaxpy_dr\d+_[a-z0-9-]+\.xml", path.name.lower())]
    if not found:
        raise XpjaxError(f"{folder} has no file NAME.gaiaXPy_dr3_VERSION.xml")
    versions = sorted({path.name.split(".")[1].split("_")[-1] for path in found})
    if len(versions) > 1:
        raise XpjaxError(f"{folder} has systems of several versions, {versions}: keep one version in a folder")
    names = [PREFIX + path.name.split(".")[0] for path in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise XpjaxError(f"{folder} has more than one system of the names {twice}: rename or remove some")
    return dict(zip(names, found, strict=True)), versions[0]


def _values(node: ElementTree.Element | None) -> np.ndarray:
    return np.array([float(str(value.text)) for value in node])  # type: ignore[union-attr]
