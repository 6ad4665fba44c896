"""Compile a GaiaXPy configuration, of any data release, into the files with which xpjax computes.

    python tools/build_instrument.py                                   # the installed GaiaXPy -> xpjax/data
    python tools/build_instrument.py --config DIR --release "Gaia DR4" --output DIR

DIR holds GaiaXPy's config.ini and the files that it names: bases of internal spectra (Hermite functions or B-splines),
dispersion, response and inverse bases (either kind) of instrument models, design matrices on the default grid with
merge weights, photometric systems with color equations and factors on errors. All is discovered and checked; what is
absent or does not fit is said, and nothing is written then. instrument_dr4.h5 and systems_dr4.h5 go where xpjax finds
them by the release of the data: xpjax/data, or the folder of the environment variable XPJAX_DATA.

All tables are GaiaXPy's (BSD-3-Clause, Gaia DPAC); its version, licence and the SHA-256 of every file used are written
into the output. xpjax itself never imports GaiaXPy.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import csv
import hashlib
import importlib.util
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np

from xpjax import load_instrument, load_system
from xpjax.core.constants import XP_RANGE
from xpjax.core.errors import XpjaxError
from xpjax.core.paths import DATA, release_key
from xpjax.core.release import RELEASES, Release, find_release, release_attributes
from xpjax.synthetic import available_systems
from xpjax.xp import merge_weights

XP = ("bp", "rp")
KNOWN: Mapping[str, Mapping[str, str]] = {"Gaia DR3": {"bspline": "bspline_c04"}}
"""Release -> what xpjax calls a kind of internal bases, where not by the kind itself."""
BROKEN = 1e30
"""A projection with values beyond this is broken: fluxes per hertz are some 1e-33, per nanometer 1e-18."""
AGREE = 0.01
"""How far the design matrix on the default grid may be from the instrument model's, in units of its maximum, median of
the samples of each XP: GaiaXPy 2.1.5 has 1e-7; a matrix that is read in another order has 1."""

problems: list[str] = []
"""What is wrong; nothing is written then."""
told: set[str] = set()
"""Notes that were given."""


class Missing(Exception):
    """Something that has to be there and is not: the message says what, and where."""


def note(text: str) -> None:
    """A line on something that can be done without."""
    if text not in told:
        print(f"note: {text}", file=sys.stderr)
    told.add(text)


def check(good: Any, text: str) -> None:
    """Keep the text as a problem unless it is good."""
    if not good:
        problems.append(text)


class Config:
    """A folder with GaiaXPy's configuration: its files, hashes of those used, and the version of the package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.used: dict[str, str] = {}
        self.ini = configparser.ConfigParser()
        self.ini.read(folder / "config.ini")
        self.version = _version(folder)

    def path(self, relative: str) -> Path:
        """A file of the folder, its hash noted."""
        path = self.folder / relative
        if not path.is_file():
            raise Missing(f"{self.folder} has no file {relative}")
        self.used[relative] = hashlib.sha256(path.read_bytes()).hexdigest()
        return path

    def named(self, section: str, option: str) -> str:
        """What config.ini says. Raises Missing."""
        if not self.ini.has_option(section, option):
            raise Missing(f"{self.folder / 'config.ini'} has no {option} in [{section}]")
        return self.ini.get(section, option)

    def listed(self, folder: str, pattern: str) -> dict[tuple[str, ...], str]:
        """Files of a folder whose names match a pattern: its groups -> name."""
        found = (re.fullmatch(pattern, path.name) for path in sorted((self.folder / folder).glob("*")))
        return {match.groups(): match.group() for match in found if match}


def _version(folder: Path) -> str:
    """The version that the package around the folder states, by its dist-info; else `unknown`."""
    for parent in folder.parents:
        for path in sorted(parent.glob("[Gg]aia[Xx][Pp]y-*.dist-info/METADATA")):
            found = re.search(r"^Version: (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            if found:
                return found.group(1)
    note(f"no gaiaxpy-*.dist-info above {folder}: the version of the configuration is unknown")
    return "unknown"


def find_config(given: Path | None, release: str | None) -> Path:
    """The folder with config.ini: in or below a folder that is given, else of the installed GaiaXPy. Raises Missing."""
    if given is None:
        spec = importlib.util.find_spec("gaiaxpy")
        if spec is None or not spec.submodule_search_locations:
            raise Missing("GaiaXPy is not installed (pip install --upgrade gaiaxpy); or name --config DIR")
        given = Path(spec.submodule_search_locations[0])
    found = sorted(path.parent for path in given.rglob("config.ini") if "[calibrator]" in path.read_text())
    if len(found) > 1 and release:
        key = release_key(Release(release, (1, 1)))
        found = [folder for folder in found if key in str(folder.relative_to(given)).lower()] or found
    if len(found) != 1:
        several = ": name one of " + ", ".join(map(str, found)) if found else ""
        raise Missing(f"{given} has {len(found) or 'no'} config.ini with a section [calibrator]{several} as --config")
    return found[0]


# --- reading ----------------------------------------------------------------------------------------------------------


def tree(config: Config, relative: str) -> ElementTree.Element:
    """The root of an XML file."""
    try:
        return ElementTree.parse(config.path(relative)).getroot()
    except ElementTree.ParseError as error:
        raise Missing(f"{relative} is no XML: {error}") from None


def node(parent: ElementTree.Element, tag: str, origin: str) -> ElementTree.Element:
    """A child of an XML element. Raises Missing."""
    found = parent.find(tag)
    if found is None:
        raise Missing(f"{origin} has no {tag}")
    return found


def values(parent: ElementTree.Element, tag: str, origin: str) -> np.ndarray:
    """The numbers in the children of an XML element."""
    return np.array([float(str(child.text)) for child in node(parent, tag, origin)], dtype=float)


def limits(parent: ElementTree.Element, tag: str, origin: str) -> tuple[float, float]:
    """The `from` and `to` of an XML range."""
    found = node(parent, tag, origin)
    return float(found.attrib["from"]), float(found.attrib["to"])


def sampled(root: ElementTree.Element, xp: str, origin: str) -> np.ndarray:
    """Projection or design matrix of one XP, (n_basis, n_sample)."""
    found = node(root, f"XpSampling/{xp}SampledBases", origin)
    flat = values(root, f"XpSampling/{xp}SampledBases", origin)
    size = int(found.attrib["dimension"])
    if len(flat) % size:
        raise Missing(f"{origin}: {len(flat)} values of {xp}SampledBases are no whole number of {size} bases")
    return flat.reshape(-1, size).T


def matrix(flat: np.ndarray, rows: int, columns: int, what: str) -> np.ndarray:
    """Numbers as a matrix. Raises Missing where they are not as many."""
    if len(flat) != rows * columns:
        raise Missing(f"{what} has {len(flat)} values, expected {rows} x {columns}")
    return flat.reshape(rows, columns)


def internal_bases(config: Config, relative: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """The kind of the bases in a file, hermite or bspline, and by XP what an HDF5 group holds of them."""
    root = tree(config, relative)
    kinds = {"hermite": "hermiteFunction", "bspline": "spline"}
    kind = next((kind for kind, tag in kinds.items() if root.find(f".//{tag}/bpConfig") is not None), None)
    if kind is None:
        raise Missing(f"{relative} has neither hermiteFunction nor spline with a bpConfig")
    bases = {}
    for xp in XP:
        of_xp, origin = node(root, f".//{kinds[kind]}/{xp}Config", relative), f"{relative}, {xp}Config"
        group: dict[str, Any] = {}
        if kind == "hermite":
            n_spline = int(str(node(of_xp, "dimension", origin).text))
            group["@pseudo_range"] = limits(of_xp, "range", origin)
            group["@normalized_range"] = limits(of_xp, "normalizedRange", origin)
        else:
            group["knots"] = values(of_xp, "knots", origin)
            group["@degree"] = int(str(node(of_xp, "order", origin).text)) - 1
            n_spline = len(group["knots"]) - group["@degree"] - 1
        if of_xp.find("transformationMatrix") is not None:
            n_out = int(str(node(of_xp, "transformedSetDimension", origin).text))
            flat = values(of_xp, "transformationMatrix", origin)
            group["transformation"] = matrix(flat, n_out, n_spline, f"{origin}: transformationMatrix")
        elif kind == "hermite":
            group["transformation"] = np.eye(n_spline)
        check_basis(group, "transformation", origin)
        bases[xp] = group
    return kind, bases


def check_basis(group: Mapping[str, Any], name: str, origin: str) -> None:
    """Finite values, ascending ranges and knots; whether functions are orthonormal is told, for it need not be so."""
    for key, value in group.items():
        check(np.isfinite(value).all(), f"{origin}: {key.lstrip('@')} has values that are not finite")
        if key.endswith("_range"):
            check(value[0] < value[1], f"{origin}: {key.lstrip('@')} {value} does not ascend")
    if "knots" in group:
        check((np.diff(group["knots"]) >= 0).all(), f"{origin}: the knots do not ascend")
        check(group["@degree"] >= 1, f"{origin}: B-splines of order {group['@degree'] + 1}; expected 2 or more")
    turn = group.get(name)
    if turn is not None and turn.shape[0] <= turn.shape[1]:
        off = np.abs(turn @ turn.T - np.eye(len(turn))).max()
        if off > 1e-3:
            note(f"{origin}: the rows of its {name} are not orthonormal (by up to {off:.2g})")


def absolute_part(config: Config, stem: Mapping[str, str]) -> dict[str, Any]:
    """One photometer's external calibration, of three files."""
    group: dict[str, Any] = {}
    for part in ("dispersion", "response"):
        table = np.loadtxt(config.path(stem[part]), delimiter=",", ndmin=2)
        fits = table.shape[0] == 2 and table.shape[1] > 3
        check(fits, f"{stem[part]} has the shape {table.shape}; expected two rows, wavelengths and values")
        check(fits and np.isfinite(table).all() and (np.diff(table[0]) > 0).all(), f"{stem[part]}: no ascending table")
        group[part] = table
    csv.field_size_limit(10**9)
    origin = stem["bases"]
    with open(config.path(origin), newline="") as handle:
        rows = list(csv.DictReader(handle))
    if len(rows) != 1:
        raise Missing(f"{origin} has {len(rows)} rows; expected one")
    row = rows[0]
    absent = [key for key in ("nBases", "inverseBasesCoefficients", "transformationMatrix") if key not in row]
    if absent:
        raise Missing(f"{origin} has no column {', '.join(absent)}; it has {', '.join(row)}")
    numbers = {key: np.array(ast.literal_eval(row[key]), float) for key in row if str(row[key]).startswith(("(", "["))}
    n_basis, turn = int(row["nBases"]), numbers["transformationMatrix"]
    group["transformation"] = matrix(turn, n_basis, len(turn) // n_basis, f"{origin}: transformationMatrix")
    inner = group["transformation"].shape[1]
    flat = numbers["inverseBasesCoefficients"]
    group["inverse_basis"] = matrix(flat, inner, len(flat) // inner, f"{origin}: inverseBasesCoefficients")
    if "knots" in row:
        group["knots"], group["@degree"] = numbers["knots"], int(row["order"]) - 1
        n_spline = len(group["knots"]) - group["@degree"] - 1
        found = group["inverse_basis"].shape[1]
        check(found == n_spline, f"{origin}: {found} inverse coefficients for {n_spline} B-splines of its knots")
    else:
        absent = [key for key in ("pwlRangeMin", "pwlRangeMax", "normRangeMin", "normRangeMax") if key not in row]
        if absent:
            raise Missing(f"{origin} has no column {', '.join(absent)}, which Hermite functions need, and no knots")
        group["@pseudo_range"] = float(row["pwlRangeMin"]), float(row["pwlRangeMax"])
        group["@normalized_range"] = float(row["normRangeMin"]), float(row["normRangeMax"])
    check_basis(group, "transformation", origin)
    return group


def model_parts(config: Config) -> dict[str, dict[str, dict[str, str]]]:
    """By XP and name of a model the names of its three files, as config.ini spells them."""
    parts: dict[str, dict[str, dict[str, str]]] = {xp: {} for xp in XP}
    for key in ("bases", "dispersion", "response"):
        spelled = config.named("calibrator", key)
        pattern = re.escape(spelled).replace("xp", "(?P<xp>bp|rp)", 1).replace("xp", "(?P=xp)")
        pattern = pattern.replace("(?P<(?P=xp)>", "(?P<xp>").replace("model", "(?P<model>.+)", 1)
        for (xp, model), name in config.listed("", pattern).items():
            parts[xp].setdefault(model, {})[key] = name
    whole = {xp: {model: files for model, files in parts[xp].items() if len(files) == 3} for xp in XP}
    for xp in XP:
        for model in sorted(parts[xp].keys() - whole[xp].keys()):
            note(f"{xp} {model} has only {', '.join(parts[xp][model].values())}: left out")
        if not whole[xp]:
            raise Missing(f"{config.folder} has no {xp} model as config.ini spells it ([calibrator], bases)")
    return whole


def filter_file(config: Config, model: str, label: str | None = None) -> str:
    """The name of the file of a system, or without one that of the spectra, for a pair of models."""
    spelled = config.named("filter", "filter").replace("model", model)
    return "filters/" + (spelled.replace("system_", "") if label is None else spelled.replace("system", label))


def merge_range(wavelength: np.ndarray, weight: np.ndarray, origin: str) -> tuple[float, float]:
    """Where BP hands over linearly to RP [nm], of the weights (2, n) on the default grid."""
    inside = (weight[1] > 0) & (weight[1] < 1)
    check(np.abs(weight.sum(axis=0) - 1).max() < 2e-5, f"{origin}: the weights of BP and RP do not add up to one")
    if inside.sum() < 2:
        check(False, f"{origin}: BP hands over to RP within one step; expected a linear ramp of some samples")
        return XP_RANGE
    slope, start = np.polyfit(wavelength[inside], weight[1][inside], 1)
    low, high = (round(float((y - start) / slope), 2) for y in (0.0, 1.0))
    off = np.abs(merge_weights(wavelength, (low, high)) - weight).max()
    check(off < 1e-3, f"{origin}: the merge weights are no linear ramp from BP to RP, as from {low} to {high} nm")
    return low, high


def spectra_model(config: Config, names: Sequence[str]) -> dict[str, Any]:
    """Design matrices and merge weights on the default grid, for a pair of models."""
    origin = filter_file(config, "".join(names))
    root = tree(config, origin)
    wavelength = values(root, "XpMerge/sampleMeanWavelengths", origin)
    group: dict[str, Any] = {"@parts": list(names), "wavelength": wavelength}
    check((np.diff(wavelength) > 0).all(), f"{origin}: sampleMeanWavelengths do not ascend")
    for xp in XP:
        group[f"{xp}_design"] = sampled(root, xp, origin)
        group[f"{xp}_weight"] = values(root, f"XpMerge/{xp}Weights", origin)
        for key in (f"{xp}_design", f"{xp}_weight"):
            if group[key].shape[-1] != len(wavelength):
                raise Missing(f"{origin}: {key} has {group[key].shape[-1]} samples, the grid {len(wavelength)}")
            check(np.isfinite(group[key]).all(), f"{origin}: {key} has values that are not finite")
    group["@merge_range"] = merge_range(wavelength, np.stack([group[f"{xp}_weight"] for xp in XP]), origin)
    group["@wavelength_range"] = min(wavelength[0], XP_RANGE[0]), max(wavelength[-1], XP_RANGE[1])
    return group


def find_models(config: Config) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Absolute calibrations by `xp/name`, and models by `bp/rp` where there are spectra of a pair. Raises Missing."""
    parts = model_parts(config)
    pairs = [(bp, rp) for bp in sorted(parts["bp"]) for rp in sorted(parts["rp"])]
    pairs = [pair for pair in pairs if (config.folder / filter_file(config, "".join(pair))).is_file()]
    if not pairs:
        some = filter_file(config, sorted(parts["bp"])[0] + sorted(parts["rp"])[0])
        raise Missing(f"{config.folder} has no design matrices of any pair of models, such as {some}")
    for k, xp in enumerate(XP):
        for model in sorted(parts[xp].keys() - {pair[k] for pair in pairs}):
            note(f"no design matrices in filters/ with the {xp} model {model}: left out")
    used = {(xp, pair[k]) for pair in pairs for k, xp in enumerate(XP)}
    absolute = {f"{xp}/{name}": absolute_part(config, parts[xp][name]) for xp, name in sorted(used)}
    return absolute, {"/".join(pair): spectra_model(config, pair) for pair in pairs}


def read_bases(config: Config, release: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Internal bases by the kind's name, by XP."""
    if not config.ini.has_section("converter"):
        raise Missing(f"{config.folder / 'config.ini'} has no [converter], which names the bases of internal spectra")
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for relative in dict.fromkeys(config.ini["converter"].values()):
        kind, bases = internal_bases(config, relative)
        name = KNOWN.get(release, {}).get(kind, kind)
        found[f"{name}_{Path(relative).stem}" if name in found else name] = bases
    return found


# --- systems ----------------------------------------------------------------------------------------------------------


def system_files(config: Config, models: Sequence[str], chosen: str | None) -> tuple[str, dict[str, tuple[str, str]]]:
    """The model that the systems are for, and by label each system's name and file."""
    found = {}
    for model in models if chosen is None else [chosen]:
        pattern = re.escape(Path(filter_file(config, model.replace("/", ""))).name)
        spelled = re.escape(config.named("filter", "filter")).replace("model", model.replace("/", ""))
        files = config.listed("filters", spelled.replace("system", "(.+)"))
        found[model] = {groups[0]: name for groups, name in files.items() if name != pattern}
    found = {model: files for model, files in found.items() if files}
    if len(found) != 1:
        several = f"name one of {', '.join(found)} as --model" if found else f"of the models {', '.join(models)}"
        raise Missing(f"{config.folder / 'filters'} has systems of {len(found)} instrument models; {several}")
    ((model, files),) = found.items()
    labels = {plain(label): label for label in files}
    if (config.folder / "available_systems.txt").is_file():
        names = config.path("available_systems.txt").read_text().split()
    else:
        note("no available_systems.txt: every system is taken, by its label")
        names = sorted(files)
    for name in names:
        check(plain(name) in labels, f"available_systems.txt names {name}, but filters/ has no file of it for {model}")
    listed = {labels[plain(name)]: name for name in names if plain(name) in labels}
    unlisted = sorted(files.keys() - listed.keys())
    if unlisted:
        note(f"not in available_systems.txt, left out: {', '.join(unlisted)}")
    return model, {label: (name, f"filters/{files[label]}") for label, name in listed.items()}


def plain(name: str) -> str:
    """A name without case and underscores."""
    return name.replace("_", "").lower()


def read_system(config: Config, label: str, name: str, relative: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A system's whole bands and its broken ones, each as what an HDF5 group holds."""
    root = tree(config, relative)
    bands = [str(child.text) for child in node(root, "bands", relative)]
    projection = np.concatenate([sampled(root, xp, relative) for xp in XP])
    zero_point = values(root, "zeropoints", relative)
    mean = values(root, "XpMerge/sampleMeanWavelengths", relative)
    standardized = name.lower().endswith("std")
    bias = values(root, "fluxBias", relative) if standardized else np.zeros(len(bands))
    for what, size in (("sampled bases", projection.shape[1]), ("zero points", len(zero_point))):
        if size != len(bands):
            raise Missing(f"{relative} has {size} {what} for {len(bands)} bands")
    if len(mean) != len(bands) or len(bias) != len(bands):
        raise Missing(f"{relative} has {len(mean)} wavelengths and {len(bias)} flux biases for {len(bands)} bands")
    for what, array in (("zero points", zero_point), ("flux biases", bias), ("mean wavelengths", mean)):
        check(np.isfinite(array).all(), f"{relative} has {what} that are not finite")
    size = np.abs(np.where(np.isfinite(projection), projection, np.inf)).max(axis=0)
    refused = {
        band: f"its projection vector is broken in GaiaXPy {config.version} "
        f"(values up to {f'{s:.0e}'.replace('e+', 'e')})"
        for band, s in zip(bands, size, strict=True)
        if s > BROKEN
    }
    check((size > 0).all(), f"{relative} has bands whose projection is zero")

    def some(keep: np.ndarray, said: Mapping[str, str]) -> dict[str, Any]:
        return {
            "@name": name,
            "@refused": json.dumps(said),
            "band": [band for band, k in zip(bands, keep, strict=True) if k],
            "projection": projection[:, keep],
            "zero_point": zero_point[keep],
            "mean_wavelength": mean[keep],
            # AB systems have fluxes per hertz and zero points near -56.1, the others per nanometer, near -21.
            "@flux_unit": "W m-2 Hz-1" if np.all(zero_point[keep] < -40) else "W m-2 nm-1",
            "flux_bias": bias[keep],
            "@standardised": standardized,
        }

    broken = np.array([band in refused for band in bands])
    whole = some(~broken, refused)
    whole |= color_equation(config, label, whole["band"]) | error_factors(config, label, whole["band"])
    return whole, some(broken, {})


def color_equation(config: Config, label: str, bands: Sequence[str]) -> dict[str, Any]:
    """The color equation of a system, where it has one."""
    relative = f"colour_eq_files/{label}_colour_eq.ini"
    if not (config.folder / relative).exists():
        return {}
    parser = configparser.ConfigParser()
    parser.read(config.path(relative))
    if label not in parser:
        raise Missing(f"{relative} has no section [{label}]")
    section = parser[label]
    absent = [key for key in ("FILTER", "COLOUR_INDEX", "COLOUR_RANGE", "POLY_COEFFICIENTS") if key not in section]
    if absent:
        raise Missing(f"{relative} has no {', '.join(absent)}")
    blue, red = section["COLOUR_INDEX"].split("-")
    for band in (section["FILTER"], blue, red):
        check(band in bands, f"{relative} names the band {band}; {label} has {', '.join(bands)}")
    coefficient = np.array(ast.literal_eval(section["POLY_COEFFICIENTS"]))
    span = ast.literal_eval(section["COLOUR_RANGE"])
    check(np.isfinite(coefficient).all() and span[0] < span[1], f"{relative}: no finite coefficients on a range")
    about = {"@band": section["FILTER"], "@blue": blue, "@red": red, "@color_range": span}
    return {"color_equation": {"coefficient": coefficient, **about}}


def error_factors(config: Config, label: str, bands: Sequence[str]) -> dict[str, Any]:
    """The table of factors on errors by G of a system, where it has one."""
    found = config.listed("correction_tables", rf"(?:.*-)?{re.escape(label)}-correction-factors\.csv")
    if not found:
        return {}
    if len(found) > 1:
        raise Missing(f"correction_tables has several tables of {label}: {', '.join(found.values())}")
    relative = f"correction_tables/{next(iter(found.values()))}"
    with open(config.path(relative), newline="") as handle:
        header, *rows = csv.reader(handle)
    body = np.array([row for row in rows if row], dtype=float)
    columns = [re.sub("^factor_", "", column) for column in header[2:]]
    if columns != list(bands) or body.ndim != 2:
        raise Missing(f"{relative}: its bands {columns} are not those of {label}: {list(bands)}")
    check((body[1:, 0] == body[:-1, 1]).all(), f"{relative}: bins of G do not follow one another")
    check(np.isfinite(body).all() and (body[:, 2:] > 0).all(), f"{relative}: factors that are not above zero")
    return {"error_correction": {"g_min": body[:, 0], "g_max": body[:, 1], "factor": body[:, 2:]}}


def gaia_label(systems: Mapping[str, Mapping[str, Any]], release: str) -> str | None:
    """The label of the system of Gaia's own G, BP and RP in Vega magnitudes: of the release, else of any."""
    found = [label for label, group in systems.items() if "gaia" in label.lower() and "G" in group["band"]]
    found = [label for label in found if systems[label]["@flux_unit"].endswith("nm-1")]
    key = release_key(Release(release, (1, 1)))
    found.sort(key=lambda label: (key not in label.lower(), "vega" not in label.lower(), label))
    return found[0] if found else None


# --- checking and writing ---------------------------------------------------------------------------------------------


def find_sizes(release: str | None, sizes: tuple[int, ...]) -> Release:
    """The release that is named, or that has these sizes. Raises Missing."""
    if release is None:
        found = [known for known in RELEASES if known.n_basis == sizes]
        if not found:
            raise Missing(f"no known release has {sizes[0]} + {sizes[1]} basis functions; name it by --release")
        return found[0]
    try:
        known = find_release(release)
    except XpjaxError:
        note(f"{release} is not a release that xpjax knows by name (xpjax/core/release.py)")
        return Release(release, sizes)
    if known.n_basis != sizes:
        raise Missing(
            f"the configuration has {sizes[0]} + {sizes[1]} basis functions, but xpjax knows {known.name} with "
            f"{known.n_basis[0]} + {known.n_basis[1]}: it is of another release, or xpjax/core/release.py has to change"
        )
    return known


def check_sizes(absolute: Mapping[str, Any], models: Mapping[str, Any], internal: Mapping[str, Any]) -> tuple[int, int]:
    """The number of basis functions of BP and RP, on which all models agree."""
    sizes: dict[str, set[int]] = {xp: set() for xp in XP}
    for name, group in absolute.items():
        sizes[name[:2]].add(group["transformation"].shape[0])
    for group in models.values():
        for xp in XP:
            sizes[xp].add(group[f"{xp}_design"].shape[0])
    for xp in XP:
        if len(sizes[xp]) > 1:
            raise Missing(f"the {xp} models have different numbers of basis functions: {sorted(sizes[xp])}")
    found = tuple(sizes[xp].pop() for xp in XP)
    own = {kind: tuple(n_basis(bases[xp]) for xp in XP) for kind, bases in internal.items()}
    check(found in own.values(), f"no internal bases with {found} functions: {own}")
    return found[0], found[1]


def n_basis(group: Mapping[str, Any]) -> int:
    """Number of basis functions of a group."""
    if "transformation" in group:
        return len(group["transformation"])
    return len(group["knots"]) - int(group["@degree"]) - 1


def leaves(group: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, str, Any]]:
    """Group, name and value of everything in nested groups; names of attributes begin with @."""
    for key, value in group.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{inside}/{key}")
        else:
            yield inside or "/", key, value


def write(path: Path, content: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """An HDF5 file of nested groups."""
    with h5py.File(path, "w") as file:
        for inside, key, value in leaves(content):
            group = file.require_group(inside)
            if key.startswith("@"):
                group.attrs[key[1:]] = value
            elif key == "band":
                group[key] = np.array(value, dtype=h5py.string_dtype())
            else:
                group[key] = value
        file.attrs.update(about)


def described(config: Config, title: str, release: Release, **more: Any) -> dict[str, Any]:
    """Title, origin, licence and hashes of what is in a file; files used from here on are of the next one."""
    about = {
        **more,
        "title": title,
        "source_package": "GaiaXPy",
        "source_version": config.version,
        "source_licence": "BSD-3-Clause, Copyright (c), DPAC, CU5, DPCI; see NOTICE",
        "source_sha256": json.dumps(config.used, indent=0, sort_keys=True),
        **release_attributes(release),
        "format_version": 1,
    }
    config.used = {}
    return about


def compare(path: Path, models: Mapping[str, Any], default: str) -> None:
    """How far published design matrices are from those of the instrument models: of the default one, not far."""
    for model, group in models.items():
        instrument = load_instrument(model, path=path)
        made = instrument.design(group["wavelength"])
        ours, theirs = np.asarray(made.value) * float(made.scale), instrument.default_design
        off = np.abs(ours - theirs).max(axis=0) / np.abs(theirs).max()
        usual = max(float(np.median(off[group[f"{xp}_weight"] > 0])) for xp in XP)
        text = f"{model}: its design matrix and the published one differ by {usual:.1e} of the maximum"
        print(f"{text}, median; {off.max():.1e} at {group['wavelength'][off.argmax()]:g} nm")
        check(usual < AGREE or model != default, text)


def build_instrument(config: Config, release: str | None, output: Path, default: str | None) -> tuple[Release, str]:
    """The file of instrument models; the release that it is of, and the name of the default model."""
    absolute, models = find_models(config)
    model, _ = system_files(config, list(models), default)
    config.used.pop("available_systems.txt", None)
    for group in models.values():
        # On grids of the user's own GaiaXPy has one range, that of the default model, whatever a model's own grid has.
        group["@merge_range"] = models[model]["@merge_range"]
    sizes = [group["transformation"].shape[0] for name, group in absolute.items() if name in _parts(model)]
    chosen = find_sizes(release, tuple(sizes))
    internal = read_bases(config, chosen.name)
    check_sizes(absolute, models, internal)
    content: dict[str, Any] = {
        "internal": internal,
        "absolute": absolute,
        "model": {name.replace("/", "_"): group for name, group in models.items()},
    }
    if config.ini.has_option("core", "dispersion_function"):
        table = np.genfromtxt(config.path(config.named("core", "dispersion_function")), delimiter=",", skip_header=1)
        content["dispersion"] = dict(zip(("wavelength", *XP), table[:, :3].T, strict=True))
    else:
        note("config.ini has no dispersion_function in [core]: left out; plots and wl_to_pwl need it")
    about = described(config, f"{chosen.name} XP instrument models", chosen, default_model=model)
    stop()
    path = output / f"instrument_{release_key(chosen)}.h5"
    write(path, content, about)
    compare(path, models, model)
    stop()
    print(f"{path.name}: {chosen.name}, models {', '.join(models)} (default {model}), bases {', '.join(internal)}")
    return chosen, model


def _parts(model: str) -> list[str]:
    """Names of the parts of a model, such as bp/v1."""
    return [f"{xp}/{part}" for xp, part in zip(XP, model.split("/"), strict=True)]


def build_systems(config: Config, release: Release, output: Path, model: str) -> None:
    """Projection vectors, zero points, flux biases, color equations, error-correction tables; and the broken bands."""
    config.used = {}
    _, files = system_files(config, [model], model)
    whole, broken = {}, {}
    for label, (name, relative) in files.items():
        good, bad = read_system(config, label, name, relative)
        whole |= {label: good} if good["band"] else {}
        broken |= {label: bad} if bad["band"] else {}
        check(len(good["projection"]) == release.n_basis_total, f"{relative} is not of {release.n_basis} bases")
        for band, why in json.loads(good["@refused"]).items():
            note(f"{label} {band} is refused: {why}")
    own = gaia_label(whole, release.name)
    if own is None:
        note("no system of Gaia's own photometry (G, Vega): factors on errors are left out, magnitudes cannot be tied")
        for group in whole.values():
            group.pop("error_correction", None)
    used = {key: value for key, value in config.used.items() if key.startswith(("available", "filters"))}
    title = f"Published photometric systems for {release.name} XP spectra"
    more = {"instrument_model": model} | ({} if own is None else {"gaia_system": own})
    about = described(config, title, release, **more)
    stop()
    path = output / f"systems_{release_key(release)}.h5"
    write(path, whole, about)
    if broken:
        config.used = used
        write(output / f"broken_{release_key(release)}.h5", broken, described(config, title, release, **more))
    for name in available_systems(path):
        load_system(name, path=path)
    print(f"{path.name}: {len(whole)} systems, {sum(len(group['band']) for group in whole.values())} bands")


def stop() -> None:
    """Raise Missing where there are problems."""
    if problems:
        raise Missing("\n  ".join([f"{len(problems)} problems, nothing is written:", *problems]))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    problems.clear()
    told.clear()
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--config", type=Path, help="folder with, or above, GaiaXPy's config.ini (the installed one)")
    parser.add_argument("--release", help='data release, as "Gaia DR4"; by default the one with these sizes')
    parser.add_argument("--output", type=Path, default=DATA, help="folder to write to (xpjax/data)")
    parser.add_argument("--model", help="default instrument model, BP/RP; by default the one of the systems")
    options = parser.parse_args(arguments)
    try:
        config = Config(find_config(options.config, options.release))
        options.output.mkdir(parents=True, exist_ok=True)
        # Files get their place when all of them are whole.
        with tempfile.TemporaryDirectory(dir=options.output) as folder:
            release, model = build_instrument(config, options.release, Path(folder), options.model)
            build_systems(config, release, Path(folder), model)
            for path in sorted(Path(folder).iterdir()):
                print(os.replace(path, options.output / path.name) or options.output / path.name)
    except (Missing, XpjaxError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
