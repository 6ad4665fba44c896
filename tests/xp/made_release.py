"""A made GaiaXPy: the installed package with another configuration, as that of Gaia DR4 may be.

51 + 55 basis functions, internal ones in B-splines, inverse ones in Hermite functions or in B-splines, another grid
(330..1062 nm in steps of 1.5), other ranges and names of models, another wavelength at which BP hands over to RP, and
systems with a color equation, flux biases, factors on errors and a broken band. What is in the files is evaluated by
SciPy alone.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import BSpline, CubicSpline
from scipy.special import eval_hermite, gammaln

SIZES = {"bp": 51, "rp": 55}
GRID = np.arange(330.0, 1062.1, 1.5)
RAMP = (640.0, 652.0)
MODELS = {"hermite": ("v500h", "v200h"), "bspline": ("v501s", "v201s")}
SPLINES = {"bp": 53, "rp": 58}
HERMITES = {"bp": 60, "rp": 57}
PSEUDO = {"bp": (-2.0, 62.0), "rp": (0.5, 60.5)}
NORMALIZED = {"bp": (-9.5, 9.2), "rp": (-9.9, 9.7)}
AREA, PLANCK, LIGHT = 0.7278, 6.62607004e-34, 299792458.0
VERSION = "3.0.0"


def rotation(seed: int, rows: int, columns: int) -> np.ndarray:
    """A matrix (rows, columns) with orthonormal rows."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(columns, columns)))[0][:rows]


def knots(low: float, high: float, n_spline: int) -> np.ndarray:
    """Clamped knots of cubic B-splines, unevenly spaced."""
    inner = low + (high - low) * np.linspace(0, 1, n_spline - 2) ** 1.05
    return np.concatenate([[low] * 3, inner, [high] * 3])


def hermite(x: np.ndarray, n: int) -> np.ndarray:
    """Normalized Hermite functions (n, n_sample), by SciPy's polynomials."""
    k = np.arange(n)[:, None]
    size = -0.5 * (k * np.log(2) + gammaln(k + 1) + 0.5 * np.log(np.pi)) - 0.5 * x**2
    return np.exp(size) * eval_hermite(k, x)


@dataclasses.dataclass(frozen=True)
class Photometer:
    """One XP of a made model: tables, and its bases."""

    xp: str
    kind: str

    @property
    def wavelength(self) -> np.ndarray:
        """Where the dispersion is tabulated."""
        return np.arange(275.0, 1180.0, 15.0)

    @property
    def dispersion(self) -> np.ndarray:
        """Table (2, n) of the dispersion."""
        x = self.wavelength
        if self.xp == "bp":
            return np.stack([x, 1 + 56 * (1 / x - 1 / 660) / (1 / 330 - 1 / 660)])
        return np.stack([x, 3 + 54 * np.log(x / 640) / np.log(1065 / 640)])

    @property
    def response(self) -> np.ndarray:
        """Table (2, n) of the response."""
        x = np.arange(310.0, 1100.0, 0.5)
        center, width = (500, 150) if self.xp == "bp" else (850, 190)
        return np.stack([x, 0.7 * np.exp(-(((x - center) / width) ** 2)) * (1 + 0.02 * np.sin(x / 9))])

    @property
    def inverse(self) -> np.ndarray:
        """Coefficients (n_basis, n_function) of the inverse bases."""
        n = (HERMITES if self.kind == "hermite" else SPLINES)[self.xp]
        decay = 1 / (1 + 0.02 * np.arange(n))
        return rotation(len(self.xp) + ord(self.xp[0]) + n, SIZES[self.xp], n) * decay

    @property
    def turn(self) -> np.ndarray:
        """The transformation (n_basis, n_basis)."""
        return rotation(7 + ord(self.xp[0]), SIZES[self.xp], SIZES[self.xp])

    @property
    def knots(self) -> np.ndarray:
        """Knots of inverse bases in B-splines."""
        return knots(-3.0, 63.0, SPLINES[self.xp])

    def design(self, x: np.ndarray) -> np.ndarray:
        """Design matrix (n_basis, n) at wavelengths [nm], without merge weights."""
        u = CubicSpline(*self.dispersion)(x)
        (u0, u1), (z0, z1) = PSEUDO[self.xp], NORMALIZED[self.xp]
        if self.kind == "hermite":
            functions = hermite(z0 + (u - u0) * (z1 - z0) / (u1 - u0), HERMITES[self.xp])
        else:
            functions = BSpline.design_matrix(u, self.knots, 3).toarray().T
        response = CubicSpline(*self.response)(x)
        return self.turn @ (self.inverse @ functions) * (1e9 * PLANCK * LIGHT / (AREA * response * x))


def weights(x: np.ndarray) -> np.ndarray:
    """Weights (2, n) of BP and RP."""
    rp = np.interp(x, RAMP, (0.0, 1.0))
    return np.stack([1 - rp, rp])


def design(kind: str, x: np.ndarray, merged: bool = True) -> np.ndarray:
    """The design matrix (106, n) of a model at wavelengths [nm], with the weights of BP and RP in it or without."""
    out = []
    for xp, weight in zip(SIZES, weights(x), strict=True):
        full = np.zeros((SIZES[xp], len(x)))
        full[:, weight > 0] = Photometer(xp, kind).design(x[weight > 0])
        out.append(full * weight if merged else full)
    return np.concatenate(out)


def internal(xp: str) -> tuple[np.ndarray, np.ndarray]:
    """Knots and transformation of the internal bases of an XP, cubic B-splines on 0..60."""
    n = SIZES[xp]
    return knots(0.0, 60.0, n), rotation(40 + ord(xp[0]), n, n)


def internal_design(xp: str, u: np.ndarray) -> np.ndarray:
    """The internal bases (n_basis, n) at pseudo-wavelengths."""
    at, turn = internal(xp)
    return turn @ BSpline.design_matrix(u, at, 3).toarray().T


# --- systems ----------------------------------------------------------------------------------------------------------


def box(low: float, high: float, edge: float = 12.0) -> Callable[[np.ndarray], np.ndarray]:
    """A transmission curve with smooth edges."""
    return lambda x: 1 / (1 + np.exp(-(x - low) / edge)) / (1 + np.exp((x - high) / edge))


CURVES: Mapping[str, Mapping[str, Callable[[np.ndarray], np.ndarray]]] = {
    "Gaia_DR4_Vega": {"G": box(420, 830), "BP": box(400, 600), "RP": box(700, 900)},
    "Made_Std": {"u": box(385, 430, 5), "g": box(450, 540), "i": box(720, 830)},
    "Broken_AB": {"ok": box(500, 700), "bad": box(500, 600)},
    "Late_AB": {"y": box(930, 1020, 5)},
}
"""Transmission by system and band; photon counting."""
POLYNOMIAL, COLOR_RANGE = (0.02, -0.05, 0.03), (-0.5, 2.5)
FACTOR_BINS = np.arange(4.0, 21.0)
FACTORS = {"Gaia_DR4_Vega": 3, "Made_Std": 3}
"""Systems with factors on errors, and their bands."""


def label(name: str) -> str:
    """The label of a system, as GaiaXPy makes it of the name."""
    return "".join(word.capitalize() for word in name.split("_"))


def projection(kind: str, name: str) -> np.ndarray:
    """Projections (106, n_band) of a system by the trapezoidal rule on a fine grid."""
    x = np.arange(330.0, 1062.01, 0.05)
    matrix = design(kind, x)
    columns = []
    for curve in CURVES[name].values():
        t = curve(x)
        norm = np.trapezoid(t * x, x) if name.endswith("Vega") else 1e9 * LIGHT * np.trapezoid(t / x, x)
        columns.append(np.trapezoid(matrix * t * x, x, axis=1) / norm)
    return np.stack(columns, axis=1)


def zero_points(name: str) -> np.ndarray:
    """Zero points (n_band,) [mag]."""
    start = -21.3 if name.endswith("Vega") else -56.1
    return start + 0.01 * np.arange(len(CURVES[name]))


def biases(name: str) -> np.ndarray:
    """Flux biases (n_band,), of the standardized system."""
    return (3e-32 if name.endswith("Std") else 0.0) * np.arange(1, len(CURVES[name]) + 1)


def factors(name: str) -> np.ndarray:
    """Factors (n_bin, n_band) on errors."""
    k = np.arange(FACTORS[name])
    return 1 + 0.05 * (FACTOR_BINS[:-1, None] - 4) + 0.3 * k


# --- files ------------------------------------------------------------------------------------------------------------


def listed(array: Any) -> str:
    """An array as GaiaXPy's csv files write it."""
    return "(" + ",".join(map(repr, np.asarray(array, float).ravel().tolist())) + ")"


def elements(array: Any, tag: str = "value") -> str:
    """An array as children of an XML element."""
    return "".join(f"<{tag}>{x}</{tag}>" for x in np.asarray(array).ravel().tolist())


def filter_xml(matrix: np.ndarray, wavelength: np.ndarray, weight: np.ndarray, more: str = "") -> str:
    """A file of design matrices or projections (106, n)."""
    n = SIZES["bp"]
    parts = zip(SIZES, (matrix[:n], matrix[n:]), strict=True)
    bases = "".join(f'<{xp}SampledBases dimension="{len(m)}">{elements(m.T)}</{xp}SampledBases>' for xp, m in parts)
    merge = "".join(f"<{xp}Weights>{elements(w)}</{xp}Weights>" for xp, w in zip(SIZES, weight, strict=True))
    merge = f"<sampleMeanWavelengths>{elements(wavelength)}</sampleMeanWavelengths>{merge}"
    return f"<config>{more}<XpSampling>{bases}</XpSampling><XpMerge>{merge}</XpMerge></config>"


def write_config(folder: Path, default: str = "hermite") -> None:
    """A configuration, whose systems are for the model with inverse bases of this kind."""
    (folder / "filters").mkdir(parents=True)
    (folder / "colour_eq_files").mkdir()
    (folder / "correction_tables").mkdir()
    (folder / "config.ini").write_text(
        "[calibrator]\nbases = xpC05_model_bases.csv\ndispersion = xpC05_model_dispersion.csv\n"
        "response = xpC05_model_response.csv\n"
        "[converter]\nhermite_bases = MeanBases.xml\nspline_bases = MeanBases.xml\n"
        "[core]\ndispersion_function = Dispersion-DR4.csv\n[filter]\nfilter = XpFilter_system_model.xml\n"
    )
    for kind, names in MODELS.items():
        for xp, name in zip(SIZES, names, strict=True):
            write_photometer(folder / f"{xp}C05_{name}", Photometer(xp, kind))
        text = filter_xml(design(kind, GRID, merged=False), GRID, weights(GRID))
        (folder / "filters" / f"XpFilter_{''.join(names)}.xml").write_text(text)
    spline = "".join(
        f"<{xp}Config><order>4</order><knots>{elements(internal(xp)[0])}</knots><uniqueId>0</uniqueId>"
        f"<transformedSetDimension>{SIZES[xp]}</transformedSetDimension>"
        f"<transformationMatrix>\n{elements(internal(xp)[1])}</transformationMatrix></{xp}Config>"
        for xp in SIZES
    )
    spline = f"<basisDefinition>\n<spline>\n<type>BSpline</type>{spline}</spline></basisDefinition>"
    (folder / "MeanBases.xml").write_text(
        f'<c:Bases xmlns:c="urn:made">{spline.replace("Config><order", "Config>{0}<order").format(chr(10))}</c:Bases>'
    )
    x = np.arange(300.0, 1101.0)
    rows = zip(x, *(CubicSpline(*Photometer(xp, "hermite").dispersion)(x) for xp in SIZES), strict=True)
    lines = [f"{a!r},{b!r},{c!r}" for a, b, c in (map(float, row) for row in rows)]
    (folder / "Dispersion-DR4.csv").write_text("\n".join(["wl_nm,bp_pwl,rp_pwl", *lines]) + "\n")
    (folder / "available_systems.txt").write_text("\n".join(CURVES))
    for name in CURVES:
        write_system(folder, name, default)


def write_photometer(stem: Path, one: Photometer) -> None:
    """Dispersion, response and inverse bases of a model."""
    for part in ("dispersion", "response"):
        rows = getattr(one, part)
        Path(f"{stem}_{part}.csv").write_text("\n".join(",".join(map(repr, row.tolist())) for row in rows))
    (u0, u1), (z0, z1) = PSEUDO[one.xp], NORMALIZED[one.xp]
    row: dict[str, Any] = {"nBases": SIZES[one.xp]}
    if one.kind == "hermite":
        row |= {"pwlRangeMin": u0, "pwlRangeMax": u1, "normRangeMin": z0, "normRangeMax": z1}
    else:
        row |= {"order": 4, "knots": f'"{listed(one.knots)}"'}
    row |= {"nInverseBasesCoefficients": one.inverse.shape[1], "inverseBasesCoefficients": f'"{listed(one.inverse)}"'}
    row |= {"nTransformedBases": SIZES[one.xp], "transformationMatrix": f'"{listed(one.turn)}"'}
    Path(f"{stem}_bases.csv").write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")


def write_system(folder: Path, name: str, kind: str) -> None:
    """A system, with its color equation and factors on errors where it has them."""
    bands, made = list(CURVES[name]), projection(kind, name)
    if name == "Broken_AB":
        made[3, bands.index("bad")] = -2e61
    more = f'<bands n="{len(bands)}">{elements(bands, "item")}</bands>'
    more += f"<zeropoints>{elements(zero_points(name))}</zeropoints><fluxBias>{elements(biases(name))}</fluxBias>"
    ones = np.ones((2, len(bands)))
    text = filter_xml(made, np.linspace(400, 900, len(bands)), ones, more)
    (folder / "filters" / f"XpFilter_{label(name)}_{''.join(MODELS[kind])}.xml").write_text(text)
    if name.endswith("Std"):
        (folder / "colour_eq_files" / f"{label(name)}_colour_eq.ini").write_text(
            f"[{label(name)}]\nFILTER = u\nCOLOUR_INDEX = g-i\nCOLOUR_RANGE = {list(COLOR_RANGE)}\n"
            f"POLY_COEFFICIENTS = {listed(POLYNOMIAL)}\n"
        )
    if name in FACTORS:
        rows = zip(FACTOR_BINS[:-1], FACTOR_BINS[1:], factors(name), strict=True)
        lines = [",".join(map(repr, [float(a), float(b), *row.tolist()])) for a, b, row in rows]
        header = ",".join(["min_Gmag_bin", "max_Gmag_bin", *(f"factor_{band}" for band in bands)])
        path = folder / "correction_tables" / f"DIDREQ-465-{label(name)}-correction-factors.csv"
        path.write_text("\n".join([header, *lines]) + "\n")


def write_package(site: Path) -> Path:
    """The installed GaiaXPy as one of the made release: a folder as pip makes it. Returns that of its configuration."""
    spec = importlib.util.find_spec("gaiaxpy")
    assert spec is not None
    assert spec.submodule_search_locations
    package = site / "gaiaxpy"
    shutil.copytree(
        spec.submodule_search_locations[0], package, ignore=shutil.ignore_patterns("*.xml", "*.csv", "*.ini", "*.pyc")
    )
    for folder in ("filters", "colour_eq_files", "correction_tables"):
        shutil.rmtree(package / "config" / folder, ignore_errors=True)
    bp, rp = MODELS["hermite"]
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for old, new in (
            *(("v375wi", bp), ("v142r", rp), ("Gaia_DR3_Vega", "Gaia_DR4_Vega"), ("GaiaDr3Vega", "GaiaDr4Vega")),
            *(("WLRange(330, 643)", "WLRange(330, 652)"), ("WLRange(635, 1020)", "WLRange(640, 1062)")),
            ("max_value = 1050", "max_value = 1062"),
        ):
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    info = site / f"gaiaxpy-{VERSION}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: GaiaXPy\nVersion: {VERSION}\n")
    write_config(package / "config")
    return package / "config"


def sources(n: int = 5) -> dict[str, np.ndarray]:
    """Made sources: coefficients whose spectra are near a smooth flux, errors, and correlations (n, n_pair) by XP."""
    rng = np.random.default_rng(5)
    x = GRID
    matrix = design("hermite", x) / 1e-18
    out: dict[str, np.ndarray] = {"source_id": np.arange(10, 10 + n) * 2**35}
    flux = np.stack([10 + 300 * np.exp(-(((x - c) / 260) ** 2)) for c in np.linspace(490, 760, n)])
    value = np.linalg.lstsq(matrix.T, flux.T, rcond=1e-6)[0].T
    for xp, rows in zip(SIZES, (slice(0, SIZES["bp"]), slice(SIZES["bp"], None)), strict=True):
        size = SIZES[xp]
        out[f"{xp}_coefficients"] = value[:, rows]
        out[f"{xp}_coefficient_errors"] = rng.uniform(0.5, 1.5, (n, size)) * 1e-3 * np.abs(value[:, rows]).max()
        draws = rng.normal(size=(n, size, 90)) + 0.4 * rng.normal(size=(n, 1, 90))
        lower = np.tril_indices(size, -1)
        out[f"{xp}_coefficient_correlations"] = np.stack([np.corrcoef(d)[lower] for d in draws])
        out[f"{xp}_n_relevant_bases"] = rng.integers(20, size, n)
    return out


def write_sources(path: Path, made: Mapping[str, np.ndarray]) -> None:
    """The sources as a csv file of the archive."""
    names = [*made, *(f"{xp}_{key}" for xp in SIZES for key in ("n_parameters", "standard_deviation"))]
    lines = [",".join(names)]
    for row in range(len(made["source_id"])):
        cells = [made[name][row] for name in made]
        text = [f'"{listed(cell)}"' if np.ndim(cell) else str(cell) for cell in cells]
        lines.append(",".join([*text, *(str(x) for size in SIZES.values() for x in (size, 1.0))]))
    path.write_text("\n".join(lines) + "\n")
