"""Stellar color regression: a simulated J-PLUS, and real stars.

Simulated: 200 tiles x 12 bands, SCR against XPSP, with errors of E and [Fe/H] that are correlated on the sky. LAMOST:
held-out residuals in PS1's bands. Monster: XP synthetic against PS1 magnitudes of one part of the sky.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import DATA, Row, absent
from xpjax.survey.robust import MAD
from xpjax.survey.scr.homogenize import homogenize_band, tile_zero_points
from xpjax.survey.scr.labels import SCALE, ZERO, mean_monomials, terms
from xpjax.survey.scr.law import predict_scr
from xpjax.survey.scr.population import Population, find_population
from xpjax.survey.scr.regression import ColorFit, ColorModel, fit_scr

LAMOST, MONSTER = DATA / "lamost" / "lamost_7000.h5", DATA / "monster"
BANDS = ("u", "J0378", "J0395", "J0410", "J0430", "g", "J0515", "r", "J0660", "i", "J0861", "z")
REDDENING = (-1.08, -0.95, -0.89, -0.71, -0.60, -0.24, -0.064, -0.49, -0.32, -0.02, 0.25, 0.32)
"""Of J-PLUS, relative to E(BP-RP), for G_BP - m (u..J0515) and G_RP - m."""
PUBLISHED = (5.1, 5.4, 4.4, 2.7, 2.4, 1.6, 1.9, 1.1, 1.1, 0.9, 1.3, 1.2)
"""SCR - improved XPSP [mmag] (Xiao et al. 2023)."""
SLOPES = (
    (0.30, -0.16), (0.28, -0.15), (0.30, -0.14), (0.22, -0.07), (0.19, -0.06), (0.06, -0.03), (0.04, -0.03),
    (0.06, -0.01), (0.04, -0.005), (0.005, -0.004), (-0.025, -0.003), (-0.03, -0.003),
)  # fmt: skip
"""Of the simulated color by 500 K and by 0.5 in [Fe/H]."""
NOISE = (0.020, 0.020, 0.018, 0.012, 0.010, 0.006, 0.008, 0.005, 0.006, 0.005, 0.006, 0.005)
"""Photometric error of a simulated star [mag]."""
XP_ERROR = (0.0040, 0.0040, 0.0030, 0.0018, 0.0015, 0.0010, 0.0012, 0.0005, 0.0005, 0.0005, 0.0005, 0.0005)
"""Error of XP synthetic magnitudes that a tile's stars have in common [mag]."""


def order_of(band: str) -> int:
    return 2 if band in ("i", "J0861", "z") else 3


def truth_of(k: int) -> np.ndarray:
    """Coefficients of a simulated band: bends that shrink from blue to red, and the published R."""
    exponents = terms(order_of(BANDS[k]))
    a, b = SLOPES[k]
    bend = {(0, 0): -0.3, (1, 0): a, (0, 1): b, (2, 0): -0.12 * a, (1, 1): 0.2 * b, (0, 2): 0.15 * b}
    bend |= {(3, 0): 0.04 * a, (2, 1): -0.08 * b, (1, 2): 0.04 * b, (0, 3): 0.03 * b}
    return np.array([REDDENING[k] if e[2] else bend[e[:2]] for e in exponents])


@dataclasses.dataclass
class Sky:
    """A simulated survey: stars (n,) of tiles, true and measured labels, errors of tiles that are correlated."""

    tile: np.ndarray
    true: np.ndarray
    labels: np.ndarray
    covariance: np.ndarray
    common: np.ndarray
    """Errors (n_tile, 2) of [Fe/H] and E that a tile's stars share."""
    zero_point: np.ndarray
    rng: np.random.Generator

    @classmethod
    def make(cls, seed: int, n_tile: int = 200, per_tile: int = 100, noisy: bool = True, common: bool = True) -> Sky:
        """FGK dwarfs: Teff about 5950 K +- 270, [Fe/H] -0.25 +- 0.25, E a few hundredths; tiles 1.5 deg apart."""
        rng = np.random.default_rng(seed)
        n = n_tile * per_tile
        side = int(np.ceil(np.sqrt(n_tile)))
        place = 1.5 * np.stack(np.divmod(np.arange(n_tile), side), axis=1)
        distance = np.linalg.norm(place[:, None] - place, axis=2)
        root = np.linalg.cholesky(np.exp(-0.5 * (distance / 4) ** 2) + 1e-6 * np.eye(n_tile))
        tile = np.repeat(np.arange(n_tile), per_tile)
        dust = 0.05 * np.exp(0.5 * root @ rng.normal(size=n_tile))
        true = np.stack(
            [rng.normal(5950, 270, n), rng.normal(-0.25, 0.25, n), dust[tile] * rng.gamma(6, 1 / 6, n)], axis=1
        )
        sigma = np.array([97.0, 0.08, 0.006]) * rng.uniform(0.7, 1.3, (n, 1))
        covariance = (sigma[:, :, None] ** 2 * np.eye(3)) * noisy
        labels = true + noisy * sigma * rng.normal(size=(n, 3))
        shared = common * (root @ rng.normal(size=(n_tile, 2))) * (0.01, 0.004)
        labels[:, 1:] += shared[tile]
        return cls(tile, true, labels, covariance, shared, rng.normal(0, 0.02, (n_tile, len(BANDS))), rng)

    @property
    def n_tile(self) -> int:
        return len(self.zero_point)

    def color(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Instrumental G - m of band k and its error; one in a hundred is far off."""
        exponents = terms(order_of(BANDS[k]))
        value = mean_monomials((self.true - ZERO) / SCALE, None, exponents) @ truth_of(k)
        error = NOISE[k] * self.rng.uniform(0.6, 1.4, len(value))
        spoilt = (self.rng.random(len(value)) < 0.01) * self.rng.normal(0, 0.5, len(value))
        return value + self.zero_point[self.tile, k] + error * self.rng.normal(size=len(value)) + spoilt, error

    def fit(self, k: int, population: Population | None, errors: bool = True) -> tuple[ColorFit, np.ndarray]:
        """The regression of band k, with the errors of labels or without, and the stars' photometric errors."""
        color, error = self.color(k)
        found = fit_scr(
            color, error, self.labels, ColorModel(order=order_of(BANDS[k])), tile=self.tile, band=BANDS[k],
            label_covariance=self.covariance if errors else None, population=population if errors else None,
        )  # fmt: skip
        return found, error


def pulls(seeds: range, bands: tuple[int, ...], noisy: bool, errors: bool, **size: int) -> np.ndarray:
    """Errors of coefficients in units of what the fit says, the constant left out (its zero is a convention)."""
    out = []
    for seed in seeds:
        sky = Sky.make(seed, noisy=noisy, common=False, **size)
        population = find_population(sky.labels, sky.covariance, sky.tile) if noisy and errors else None
        for k in bands:
            law = sky.fit(k, population, errors)[0].regression
            out.append(((law.value - truth_of(k)) / law.error)[1:])
    return np.concatenate(out)


def zero_points(seed: int = 0, **size: int) -> list[dict[str, float]]:
    """SCR against XPSP per band [mmag]: scatter of the differences, and what the injected errors predict."""
    sky = Sky.make(seed, **size)
    population = find_population(sky.labels, sky.covariance, sky.tile)
    field = sky.rng.normal(size=sky.n_tile)
    rows = []
    for k, band in enumerate(BANDS):
        found, error = sky.fit(k, population)
        # XP magnitudes: the truth with an error that a tile's stars share, correlated from band to band.
        shared = XP_ERROR[k] * (0.8 * field + 0.6 * sky.rng.normal(size=sky.n_tile))
        model = sky.zero_point[sky.tile, k] + shared[sky.tile] + np.hypot(error, 0.01) * sky.rng.normal(size=len(error))
        xpsp = tile_zero_points(model, np.hypot(error, 0.01), sky.tile, sky.n_tile)
        d = found.zero_point - xpsp.value
        # Labels too high by d in [Fe/H] and E: model colors too blue or red by slope d and R d.
        mean = (np.array([5950, -0.25, 0.05]) - ZERO) / SCALE
        exponents = terms(order_of(band))
        step = np.array([0, 1e-4, 0])
        ends = mean_monomials(np.stack([mean - step, mean + step]), None, exponents) @ truth_of(k)
        slope = (ends[1] - ends[0]) / 2e-4 / SCALE[1]
        expected = -slope * sky.common[:, 0] - REDDENING[k] * sky.common[:, 1] - shared
        formal = np.sqrt(np.mean(found.zero_point_error**2 + xpsp.error**2))
        scr_only = found.zero_point - sky.zero_point[:, k]
        rows.append(
            {
                "measured": 1e3 * d.std(), "predicted": 1e3 * np.hypot(expected.std(), formal),
                "left": 1e3 * (d - expected).std(), "formal": 1e3 * formal, "SCR": 1e3 * scr_only.std(),
                "published": PUBLISHED[k], "R": found.regression.value[-1], "R error": found.regression.error[-1],
            }
        )  # fmt: skip
    return rows


def homogenized(seed: int = 0, **size: int) -> tuple[float, float, np.ndarray]:
    """A tenth of the tiles without spectroscopy: XPSP - truth there in units of its error, and the offset's pull."""
    sky = Sky.make(seed, **size)
    population = find_population(sky.labels, sky.covariance, sky.tile)
    k, offset = 1, 0.037
    found, error = sky.fit(k, population)
    shared = XP_ERROR[k] * sky.rng.normal(size=sky.n_tile)
    model = sky.zero_point[sky.tile, k] - offset + shared[sky.tile] + error * sky.rng.normal(size=len(error))
    xpsp = tile_zero_points(model, error, sky.tile, sky.n_tile)
    bare = np.arange(sky.n_tile) % 10 == 0
    scr = dataclasses.replace(
        tile_zero_points(np.full(1, np.nan), np.ones(1), np.zeros(1, int), sky.n_tile),
        value=np.where(bare, np.nan, found.zero_point), error=found.zero_point_error,
        count=np.where(bare, 0, found.n_used),
    )  # fmt: skip
    both = homogenize_band(scr, xpsp)
    level = np.average(sky.zero_point[sky.tile, k])  # the regression's own zero
    off = both.value[bare] - (sky.zero_point[bare, k] - level)
    return (
        both.scale.offset + level - offset,
        both.scale.offset_error,
        off / np.hypot(both.error, both.systematic)[bare],
    )


# --- real stars -------------------------------------------------------------------------------------------------------

PS1 = {"g": ("BP", 3), "r": ("RP", 4), "i": ("RP", 5), "z": ("RP", 6), "y": ("RP", 7)}


@dataclasses.dataclass
class Spectroscopic:
    """LAMOST stars with Gaia's and PS1's magnitudes."""

    labels: np.ndarray
    covariance: np.ndarray
    magnitude: np.ndarray
    error: np.ndarray
    good: np.ndarray

    @classmethod
    def read(cls, path: Path, bright: float = 14.0) -> Spectroscopic:
        """Both papers' cuts of labels, and G beyond `bright`: PS1's bright stars are saturated."""
        import h5py

        from xpjax.survey.selection import select

        with h5py.File(path) as file:
            d = file["data"][:]
        labels = np.column_stack([d["atm_param"][:, 0], d["atm_param"][:, 2], d["r"]]).astype(float)
        whole = np.zeros((len(d), 3, 3))
        whole[:, :2, :2] = d["atm_param_cov"][:, [0, 2]][:, :, [0, 2]]
        whole[:, 2, 2] = d["r_err"].astype(float) ** 2
        magnitude, error = d["mag"].astype(float), d["mag_err"].astype(float)
        columns = {
            "teff": labels[:, 0], "feh": labels[:, 1], "logg": d["atm_param"][:, 1].astype(float),
            "phot_g_mean_mag": magnitude[:, 0],
        }  # fmt: skip
        keep = select(columns, ("main_sequence", "temperature", "metallicity", "g"), {"g_from": bright}).keep
        return cls(labels, whole, magnitude, error, keep)

    def held_out(self, band: str, folds: int = 5, order: int = 3) -> tuple[np.ndarray, ColorFit]:
        """m_SCR - m of stars (n,) that the law was not fitted to, and the law of all."""
        gaia, column = PS1[band]
        own = self.magnitude[:, 1 if gaia == "BP" else 2]
        color = own - self.magnitude[:, column]
        error = np.hypot(self.error[:, column], self.error[:, 1])
        error = np.where(np.isfinite(color) & ~(error > 0), np.nanmedian(error), error)
        population = find_population(self.labels, self.covariance)
        options: dict[str, Any] = {
            "label_covariance": self.covariance, "population": population, "model": ColorModel(order=order),
            "band": band, "gaia": gaia,
        }  # fmt: skip
        residual = np.full(len(color), np.nan)
        fold = np.random.default_rng(0).integers(0, folds, len(color))
        for k in range(folds):
            others = np.where(self.good & (fold != k), color, np.nan)
            law = fit_scr(others, error, self.labels, **options).regression
            mine = self.good & (fold == k)
            told = predict_scr(law, own[mine], 0.0, self.labels[mine], label_covariance=self.covariance[mine])
            residual[mine] = told.magnitude - self.magnitude[mine, column]
        whole = fit_scr(np.where(self.good, color, np.nan), error, self.labels, **options)
        return residual, whole


def trend(x: np.ndarray, residual: np.ndarray, bins: int = 8) -> np.ndarray:
    """Bins of equal numbers (bins, 3): middle of x, mean residual without outliers, and its error; mean of all off."""
    good = np.isfinite(residual) & np.isfinite(x)
    good &= np.abs(residual - np.nanmedian(residual)) < 3 * MAD * np.nanmedian(
        np.abs(residual - np.nanmedian(residual))
    )
    x, residual = x[good], residual[good] - residual[good].mean()
    parts = np.array_split(np.argsort(x, kind="stable"), bins)
    return np.array([(np.median(x[p]), residual[p].mean(), residual[p].std() / np.sqrt(len(p))) for p in parts])


def lamost(path: Path) -> list[Row]:
    """Stars with G > 14 kept back, band by band: scatter of m_SCR - m, and trends beyond twice the bins' errors."""
    stars, rows = Spectroscopic.read(path), []
    for band in PS1:
        started = time.perf_counter()
        residual, whole = stars.held_out(band)
        row = Row("scr", f"LAMOST, held out, {band}", int(stars.good.sum()), time.perf_counter() - started)
        row.error, row.error_of = MAD * float(np.nanmedian(np.abs(residual - np.nanmedian(residual)))), "1.48 MAD [mag]"
        trends = [trend(x, residual) for x in (*stars.labels.T, stars.magnitude[:, 0])]
        beyond = [1e3 * float((np.abs(t[:, 1]) - 2 * t[:, 2]).max()) for t in trends]
        names = ("Teff", "[Fe/H]", "reddening", "G")
        row.ratios = {f"with {name} [mmag]": worst for name, worst in zip(names, beyond, strict=True)}
        row.ratios["trend [mmag]"] = max(beyond[:3])
        row.ratios |= {"R per E(B-V)": whole.regression.value[-1], "its error": whole.regression.error[-1]}
        row.note = "with G: " + ", ".join(f"{g:.1f}: {1e3 * m:+.1f} +- {1e3 * e:.1f} mmag" for g, m, e in trends[3])
        rows.append(row)
    return rows


# --- survey against survey --------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Compared:
    """PS1 - XP synthetic magnitudes of a band: zero-point and slope with BP-RP, and the scatter of parts of the sky."""

    n: int
    zero_point: tuple[float, float]
    slope: tuple[float, float]
    scatter: float
    parts: tuple[float, float]
    """Scatter of the parts' zero-points beyond their errors, and its error."""


def compare(
    difference: np.ndarray, error: np.ndarray, color: np.ndarray, part: np.ndarray, middle: float = 1.0
) -> Compared:
    """A clipped line in color, and zero-points of parts about it, by weighted least squares with a fitted floor."""
    from xpjax.survey.exposures.flat import error_floor

    good = np.isfinite(difference) & np.isfinite(color) & (error > 0)
    d, e, c, part = difference[good], error[good], color[good] - middle, part[good]
    a = np.stack([np.ones(len(d)), c], axis=1)
    value, used, floor = np.array([np.median(d), 0.0]), np.ones(len(d), bool), 0.0
    for _ in range(20):
        residual = d - a @ value
        floor = float(error_floor(residual, e**2, np.zeros(len(d), int), 1)[0])
        weight = 1 / (e**2 + floor**2)
        before, used = used, np.abs(residual) * np.sqrt(weight) < 3
        normal = (a[used] * weight[used, None]).T @ a[used]
        value = np.linalg.solve(normal, (a[used] * weight[used, None]).T @ d[used])
        if (before == used).all():
            break
    errors = np.sqrt(np.diag(np.linalg.inv(normal)))
    parts = tile_zero_points(d - a @ value, np.hypot(e, floor), part, part.max() + 1)
    has = np.isfinite(parts.value)
    v, s = parts.value[has], parts.error[has]
    n = max(has.sum(), 2)
    beyond = v.var(ddof=1) - np.mean(s**2) if has.sum() > 1 else np.nan
    spread = np.sqrt(max(beyond, 0.0)) if np.isfinite(beyond) else np.nan
    # Of a variance: sqrt(2 / (n - 1)); of its root, for what may be zero: the root of that.
    return Compared(
        len(d), (value[0], errors[0]), (value[1], errors[1]), MAD * float(np.median(np.abs(residual))),
        (spread, float(np.sqrt(v.var(ddof=1) * np.sqrt(2 / (n - 1)))) if has.sum() > 1 else np.nan),
    )  # fmt: skip


def shards(folder: Path) -> list[Path]:
    """The shards that PS1, Gaia and XP all have."""
    names = sorted(path.name for path in (folder / "ps1").glob("*.fits"))
    return [folder / "ps1" / n for n in names if all((folder / k / n).exists() for k in ("gaia_xp", "gaia_dr3"))]


def read_monster(folder: Path, system: str = "Panstarrs1_flux", cells: int = 2) -> dict[str, Compared]:
    """PS1 against XP on all shards that have both; where it is one, its cells x cells parts stand for shards."""
    import warnings

    from astropy.table import Table

    from xpjax.survey.matching import match_ids, match_positions

    columns: dict[str, list[np.ndarray]] = {}
    for path in shards(folder):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units that FITS does not know
            ps1, xp, gaia = (Table.read(folder / name / path.name) for name in ("ps1", "gaia_xp", "gaia_dr3"))
        at = match_positions(
            *(np.rad2deg(np.asarray(xp[c])) for c in ("coord_ra", "coord_dec")),
            *(np.rad2deg(np.asarray(ps1[c])) for c in ("coord_ra", "coord_dec")),
        ).index
        own = match_ids(np.asarray(xp["id"]), np.asarray(gaia["id"])).index
        rows = (at >= 0) & (own >= 0)
        xp, ps1, gaia = xp[rows], ps1[at[rows]], gaia[own[rows]]
        one = {"shard": np.full(len(xp), len(columns.get("shard", [])))}
        # Fluxes are in nJy: AB magnitudes for both of Gaia's.
        one["color"] = -2.5 * np.log10(np.asarray(gaia["phot_bp_mean_flux"]) / np.asarray(gaia["phot_rp_mean_flux"]))
        one["G"] = 31.4 - 2.5 * np.log10(np.asarray(gaia["phot_g_mean_flux"]))
        one["ra"], one["dec"] = (np.asarray(xp[c]) for c in ("coord_ra", "coord_dec"))
        for band in "grizy":
            f, s = np.asarray(xp[f"{system}_{band}p_flux"]), np.asarray(xp[f"{system}_{band}p_fluxErr"])
            p, q = np.asarray(ps1[f"{band}_flux"]), np.asarray(ps1[f"{band}_fluxErr"])
            with np.errstate(invalid="ignore", divide="ignore"):
                one[f"d{band}"] = -2.5 * np.log10(p / f)
                one[f"e{band}"] = 1.0857 * np.hypot(s / f, q / p)
        for name, column in one.items():
            columns.setdefault(name, []).append(column)
    c = {name: np.concatenate(parts) for name, parts in columns.items()}
    part = c["shard"].astype(int)
    if len(np.unique(part)) == 1:
        halves = [np.searchsorted(np.quantile(c[k], np.arange(1, cells) / cells), c[k]) for k in ("ra", "dec")]
        part = halves[0] * cells + halves[1]
    faint = c["G"] > 14  # PS1's bright stars are saturated
    return {band: compare(np.where(faint, c[f"d{band}"], np.nan), c[f"e{band}"], c["color"], part) for band in "grizy"}


def monster(folder: Path) -> list[Row]:
    """PS1 - XP synthetic, G > 14: zero-point at BP-RP = 1 (AB), slope, scatter of parts, each with its error [mmag]."""
    n, rows = len(shards(folder)), []
    for system in ("Panstarrs1_flux", "Panstarrs1Std_flux"):
        started = time.perf_counter()
        for band, found in read_monster(folder, system).items():
            row = Row("scr", f"PS1 - XP, {system}, {band}", found.n, time.perf_counter() - started)
            row.error, row.error_of = found.scatter, "1.48 MAD [mag]"
            for name in ("zero_point", "slope", "parts"):
                value, error = getattr(found, name)
                row.ratios |= {f"{name} [mmag]": 1e3 * value, f"{name} error": 1e3 * error}
            row.note = f"{n} shards" if n > 1 else "one shard, its quarters are the parts"
            rows.append(row)
    return rows


# --- simulated --------------------------------------------------------------------------------------------------------


def recovered(seeds: int) -> list[Row]:
    """Coefficients in u, g, r, i beside the truth: pulls with exact labels, by errors in variables, and without."""
    rows = []
    for title, noisy, errors in (
        ("noise-free labels", False, False), ("errors in variables", True, True), ("a plain fit", True, False),
    ):  # fmt: skip
        started = time.perf_counter()
        found = pulls(range(seeds), (0, 5, 7, 9), noisy, errors)
        row = Row("scr", f"J-PLUS, {seeds} seeds, {title}", len(found), time.perf_counter() - started)
        row.ratios["pull"] = float(np.sqrt(np.mean(found**2)))
        rows.append(row)
    return rows


def against_xp() -> list[Row]:
    """Zero-points of 200 tiles by SCR and by XP: their scatter, as predicted, and as published."""
    started, rows = time.perf_counter(), []
    for band, true, found in zip(BANDS, REDDENING, zero_points(), strict=True):
        row = Row("scr", f"J-PLUS, SCR - XPSP, {band}", 200, time.perf_counter() - started)
        row.error, row.error_of = 1e-3 * found["measured"], "scatter of tiles [mag]"
        row.ratios = {"measured over predicted": found["measured"] / found["predicted"], **found, "true R": true}
        rows.append(row)
    started = time.perf_counter()
    offset, error, off = homogenized()
    row = Row("scr", "J-PLUS, tiles without spectra", len(off), time.perf_counter() - started)
    row.error, row.error_of = abs(offset), "offset of XPSP to SCR about the truth [mag]"
    row.ratios = {"formal error of it [mmag]": 1e3 * error, "pull of tiles": float(off.std())}
    return [*rows, row]


def run(quick: bool) -> list[Row]:
    """A quick run: two seeds."""
    rows = [*recovered(2 if quick else 20), *against_xp()]
    rows += lamost(LAMOST) if LAMOST.exists() else [absent("scr", "LAMOST", f"no {LAMOST}")]
    return rows + (monster(MONSTER) if MONSTER.exists() else [absent("scr", "PS1 - XP", f"no {MONSTER}")])
