"""Compile the instrument models and published photometric systems into `xpjax/data/*.h5`.

    python tools/build_instrument.py

All tables come from the installed package GaiaXPy (BSD-3-Clause, Gaia DPAC); its version, licence and the SHA-256 of
every file used are written into the output. Run by hand; the output is committed. xpjax itself never imports GaiaXPy.
"""

from __future__ import annotations

import ast
import configparser
import csv
import hashlib
import importlib.metadata
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import gaiaxpy
import h5py
import numpy as np

CONFIG = Path(gaiaxpy.__file__).parent / "config"
OUTPUT = Path(__file__).parents[1] / "xpjax" / "data"
XP = ("bp", "rp")
MODELS = {"v375wi/v142r": ("v375wi", "v142r"), "v211w/v142r": ("v211w", "v142r")}
# Values of 2e61 in the source tables: the band is named and refused. It is shipped apart, for what GaiaXPy makes of it.
REFUSED = {("HalphaCustomAb", "Halpha01nm"): "its projection vector is broken in GaiaXPy 2.1.5 (values up to 2e61)"}

_used: dict[str, str] = {}


def source(relative: str) -> Path:
    """A file of the package, its hash noted."""
    path = CONFIG / relative
    _used[relative] = hashlib.sha256(path.read_bytes()).hexdigest()
    return path


def values(element: ElementTree.Element | None) -> np.ndarray:
    """The numbers in the children of an XML element."""
    assert element is not None
    return np.array([float(child.text) for child in element], dtype=float)


def texts(element: ElementTree.Element | None) -> list[str]:
    """The texts in the children of an XML element."""
    assert element is not None
    return [str(child.text) for child in element]


def limits(element: ElementTree.Element | None) -> tuple[float, float]:
    """The `from` and `to` of an XML range."""
    assert element is not None
    return float(element.attrib["from"]), float(element.attrib["to"])


def sampled(root: ElementTree.Element, xp: str) -> np.ndarray:
    """Projection or design matrix of one XP, (n_basis, n_sample)."""
    node = root.find(f"XpSampling/{xp}SampledBases")
    assert node is not None
    return values(node).reshape(-1, int(node.attrib["dimension"])).T


def describe(file: h5py.File, title: str) -> None:
    """Title, origin, licence and hashes of what is in the file."""
    file.attrs.update(
        title=title,
        source_package="GaiaXPy",
        source_version=importlib.metadata.version("gaiaxpy"),
        source_licence="BSD-3-Clause, Copyright (c), DPAC, CU5, DPCI; see NOTICE",
        source_sha256=json.dumps(_used, indent=0, sort_keys=True),
        release_name="Gaia DR3",
        release_xp=list(XP),
        release_n_basis=[55, 55],
        format_version=1,
    )
    _used.clear()


def build_instrument(path: Path) -> None:
    """Dispersion, response, inverse bases, default design matrices and internal bases."""
    with h5py.File(path, "w") as file:
        hermite = ElementTree.parse(source("OptimisedCalibratedBases_BpId32_RpId37_withNormalisation.xml")).getroot()
        spline = ElementTree.parse(source("fluxCal_20230901_renorm_bspline.xml")).getroot()
        for xp in XP:
            node = hermite.find(f"hermiteFunction/{xp}Config")
            assert node is not None
            group = file.create_group(f"internal/hermite/{xp}")
            n_out, n_in = (int(node.findtext(tag)) for tag in ("transformedSetDimension", "dimension"))
            group["transformation"] = values(node.find("transformationMatrix")).reshape(n_out, n_in)
            group.attrs["pseudo_range"] = limits(node.find("range"))
            group.attrs["normalized_range"] = limits(node.find("normalizedRange"))
            node = spline.find(f"basisDefinition/spline/{xp}Config")
            assert node is not None
            group = file.create_group(f"internal/bspline_c04/{xp}")
            group["knots"] = values(node.find("knots"))
            group.attrs["degree"] = int(node.findtext("order")) - 1
        for stem, name in (
            ("bpC03_v375wi", "bp/v375wi"),
            ("bpC03_v211w", "bp/v211w"),
            ("rpC03_v142r", "rp/v142r"),
        ):
            group = file.create_group(f"absolute/{name}")
            for part in ("dispersion", "response"):
                group[part] = np.loadtxt(source(f"{stem}_{part}.csv"), delimiter=",")
            csv.field_size_limit(10**9)
            with open(source(f"{stem}_bases.csv"), newline="") as handle:
                (row,) = csv.DictReader(handle)
            n_basis = int(row["nBases"])
            group["inverse_basis"] = np.array(ast.literal_eval(row["inverseBasesCoefficients"])).reshape(n_basis, -1)
            group["transformation"] = np.array(ast.literal_eval(row["transformationMatrix"])).reshape(n_basis, -1)
            group.attrs["pseudo_range"] = float(row["pwlRangeMin"]), float(row["pwlRangeMax"])
            group.attrs["normalized_range"] = float(row["normRangeMin"]), float(row["normRangeMax"])
        for model, parts in MODELS.items():
            root = ElementTree.parse(source(f"filters/XpFilter_{''.join(parts)}.xml")).getroot()
            group = file.create_group(f"model/{model.replace('/', '_')}")
            group.attrs["parts"] = list(parts)
            group["wavelength"] = values(root.find("XpMerge/sampleMeanWavelengths"))
            for xp in XP:
                group[f"{xp}_design"] = sampled(root, xp)
                group[f"{xp}_weight"] = values(root.find(f"XpMerge/{xp}Weights"))
        table = np.genfromtxt(
            source("TabulatedDispersionFunction-DR3-v375wiv142r_20200610.csv"), delimiter=",", skip_header=1
        )
        file["dispersion/wavelength"], file["dispersion/bp"], file["dispersion/rp"] = table[:, :3].T
        describe(file, "Gaia DR3 XP instrument models")


def build_systems(path: Path, broken: bool = False) -> None:
    """Projection vectors, zero points, flux biases, color equations, error-correction tables; or the broken bands."""
    names = source("available_systems.txt").read_text().split()
    with h5py.File(path, "w") as file:
        for name in names:
            label = "".join(word.capitalize() for word in name.split("_"))
            root = ElementTree.parse(source(f"filters/XpFilter_{label}_v375wiv142r.xml")).getroot()
            bands = texts(root.find("bands"))
            keep = np.array([((label, band) in REFUSED) == broken for band in bands])
            if not keep.any():
                continue
            group = file.create_group(label)
            group.attrs["name"] = name
            kept = [band for band, k in zip(bands, keep, strict=True) if k]
            group.attrs["refused"] = json.dumps({b: REFUSED[label, b] for b in bands if b not in kept and not broken})
            group["band"] = np.array(kept, dtype=h5py.string_dtype())
            group["projection"] = np.concatenate([sampled(root, xp) for xp in XP])[:, keep]
            zero_point = values(root.find("zeropoints"))[keep]
            group["zero_point"] = zero_point
            group["mean_wavelength"] = values(root.find("XpMerge/sampleMeanWavelengths"))[keep]
            # AB systems have fluxes per hertz and zero points near -56.1, the others per nanometre, near -21.
            group.attrs["flux_unit"] = "W m-2 Hz-1" if np.all(zero_point < -40) else "W m-2 nm-1"
            standardised = name.lower().endswith("_std")
            bias = values(root.find("fluxBias"))[keep] if standardised else np.zeros(len(kept))
            group["flux_bias"] = bias
            group.attrs["standardised"] = standardised
            equation = CONFIG / f"colour_eq_files/{label}_colour_eq.ini"
            if equation.exists():
                parser = configparser.ConfigParser()
                parser.read(source(f"colour_eq_files/{equation.name}"))
                section = parser[label]
                blue, red = section["COLOUR_INDEX"].split("-")
                node = group.create_group("color_equation")
                node["coefficient"] = np.array(ast.literal_eval(section["POLY_COEFFICIENTS"]))
                node.attrs.update(
                    band=section["FILTER"],
                    blue=blue,
                    red=red,
                    color_range=ast.literal_eval(section["COLOUR_RANGE"]),
                )
            table = CONFIG / f"correction_tables/DIDREQ-465-{label}-correction-factors.csv"
            if table.exists():
                with open(source(f"correction_tables/{table.name}"), newline="") as handle:
                    rows = list(csv.reader(handle))
                header, body = rows[0], np.array(rows[1:], dtype=float)
                columns = [re.sub("^factor_", "", column) for column in header[2:]]
                if columns != kept:
                    raise SystemExit(f"{table.name}: bands {columns} are not those of {label}: {kept}")
                node = group.create_group("error_correction")
                node["g_min"], node["g_max"], node["factor"] = body[:, 0], body[:, 1], body[:, 2:]
        file.attrs["instrument_model"] = "v375wi/v142r"
        describe(file, "Published photometric systems for Gaia DR3 XP spectra")


if __name__ == "__main__":
    OUTPUT.mkdir(exist_ok=True)
    build_instrument(OUTPUT / "instrument_dr3.h5")
    build_systems(OUTPUT / "systems_dr3.h5")
    build_systems(OUTPUT / "broken_dr3.h5", broken=True)
    print(*sorted(OUTPUT.glob("*.h5")), sep="\n")
