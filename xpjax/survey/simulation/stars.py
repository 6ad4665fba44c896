"""The stars of a simulated survey: true spectra, what Gaia says of them, and what Gaia is wrong by.

Coefficients without noise are the truth: with the linear correction they give the true spectrum. XP has noise of its
stated covariance and, where a survey is to suffer from it, errors that nobody states: one of each star, a pattern on
the sky, and a systematic error of the spectra, which is a change of the correction (`true_correction`).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.sky import HEALPIX_LEVEL, HEALPIX_SHIFT, cells_of
from xpjax.survey.selection import corrected_excess, excess_scatter
from xpjax.survey.simulation.plan import GAIA_EPOCH, Plan
from xpjax.survey.simulation.setup import SurveySetup
from xpjax.survey.sky_floor import SKY_NSIDE
from xpjax.xp import (
    LinearCorrection,
    SourceTable,
    XPCoefficients,
    concatenate,
    load_correction,
    load_instrument,
    simulate_sources,
    true_coefficients,
)

GAIA = ("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", "bp_rp")
MAS = 1 / 3.6e6
"""A milliarcsecond [deg]."""


@dataclasses.dataclass(frozen=True)
class Stars:
    """n stars: what Gaia has (table), the truth (true), G [mag], BP - RP [mag].

    has_xp (n,): whether Gaia gives a spectrum; xp_error (n, 2) [mag]: what BP and RP are too faint by, of which
    cell_error (n, 2) is that of the star's cell (n,) on the sky.
    """

    table: SourceTable
    true: SourceTable
    has_xp: np.ndarray
    xp_error: np.ndarray
    cell: np.ndarray
    cell_error: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    @property
    def star(self) -> np.ndarray:
        """Identifiers (n,)."""
        return self.table.source_id

    @property
    def color(self) -> np.ndarray:
        """BP - RP (n,) [mag]."""
        return np.asarray(self.table.columns["bp_rp"], float)

    def positions(self, years: float) -> tuple[np.ndarray, np.ndarray]:
        """Right ascensions and declinations (n,) [deg], so many years after Gaia's epoch."""
        c = self.table.columns
        dec = c["dec"] + c["pmdec"] * MAS * years
        return (c["ra"] + c["pmra"] * MAS * years / np.cos(np.radians(c["dec"]))) % 360, dec


def make_stars(s: SurveySetup, plan: Plan, rng: np.random.Generator) -> Stars:
    """The stars of all fields of a survey, at places of even density."""
    span, edge = plan.area
    low, high = np.sin(np.radians(edge))
    area = np.radians(np.ptp(span)) * (high - low)
    detector = np.prod(np.radians(np.array(s.size) * s.camera.pixel / 3600))
    n = max(round(s.n_star * float(area / detector)), 1)
    ra = (s.center[0] + rng.uniform(span[0], span[1], n)) % 360
    dec = np.degrees(np.arcsin(rng.uniform(low, high, n)))
    chosen = np.flatnonzero(_near_fields(plan, ra, dec))
    ra, dec, n = ra[chosen], dec[chosen], len(chosen)
    noisy, true = _population(s, n)
    gaia = {name: noisy.columns[name] for name in GAIA}
    motion = rng.normal(size=(2, n)) * np.where(rng.random(n) < 0.05, 60.0, 8.0)
    excess = excess_scatter(gaia["phot_g_mean_mag"]) * rng.standard_normal(n)
    columns = {
        "ra": ra, "dec": dec, "pmra": motion[0], "pmdec": motion[1], "ref_epoch": np.full(n, GAIA_EPOCH), **gaia,
        "ruwe": 1 + np.abs(rng.normal(0, 0.06, n)) + np.where(rng.random(n) < 0.02, 1.0, 0.0),
        "phot_bp_rp_excess_factor": excess - corrected_excess(gaia["bp_rp"], np.zeros(n)),
    }  # fmt: skip
    cell = cells_of(ra, dec, SKY_NSIDE)
    coefficients, error, of_cell = _with_errors(s, noisy.coefficients, cell, rng)
    ids = _source_ids(ra, dec)
    table = SourceTable(ids, coefficients, np.zeros(n, np.uint32), columns, f"simulated (seed {s.seed})")
    exact = dataclasses.replace(table, coefficients=XPCoefficients(true, None, None, None, noisy.release))
    return Stars(table, exact, rng.random(n) >= s.effects.missing, error, cell, of_cell)


def _near_fields(plan: Plan, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Which positions [deg] may be seen: within three dithers of a field."""
    margin, seen = 3 * plan.setup.dither, np.zeros(len(ra), bool)
    for e in np.unique(plan.tile, return_index=True)[1]:
        focal = plan.focal_plane(int(e), ra, dec)
        seen |= ((focal > -margin) & (focal < plan.whole + margin)).all(axis=1)
    return seen


def _population(s: SurveySetup, n: int) -> tuple[SourceTable, np.ndarray]:
    """n mock sources within the limits of G, and their coefficients without noise."""
    seed, tables, truths, missing = s.seed, [], [], n
    while missing > 0:
        made = simulate_sources(2 * missing + 200, seed=seed)
        g = made.columns["phot_g_mean_mag"]
        kept = np.flatnonzero((g > s.bright) & (g < s.faint))[:missing]
        if not len(kept):
            raise XpjaxError(f"no mock source has G of {s.bright:g} to {s.faint:g}: they have 4 to 17.65")
        truths.append(true_coefficients(len(made), seed)[kept].astype(float))
        tables.append(made[kept])
        missing, seed = missing - len(kept), seed + 1
    return concatenate(tables, "simulated"), np.concatenate(truths)


def _source_ids(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Identifiers (n,) that begin with the HEALPix pixels of positions [deg], as Gaia's do."""
    import astropy.units as u
    from astropy_healpix import lonlat_to_healpix

    pixel = lonlat_to_healpix(ra * u.deg, dec * u.deg, 2**HEALPIX_LEVEL, order="nested").astype(np.int64)
    return (pixel << HEALPIX_SHIFT) | (np.arange(1, len(ra) + 1) << 7)


def _with_errors(
    s: SurveySetup, noisy: XPCoefficients, cell: np.ndarray, rng: np.random.Generator
) -> tuple[XPCoefficients, np.ndarray, np.ndarray]:
    """Coefficients with errors that are not stated; these (n, 2) [mag]: all, and those of the cells on the sky."""
    cells, which = np.unique(cell, return_inverse=True)
    of_cell = s.effects.sky * rng.standard_normal((len(cells), 2))[which]
    error = of_cell + s.effects.standard_error * rng.standard_normal((len(cell), 1))
    factor = np.ones_like(noisy.value)
    for k, rows in enumerate(noisy.release.slices):
        factor[:, rows] = 10 ** (-0.4 * error[:, k : k + 1])
    return dataclasses.replace(noisy, value=noisy.value * factor, error=noisy.error * factor), error, of_cell


def true_correction(s: SurveySetup, rng: np.random.Generator) -> tuple[LinearCorrection | None, np.ndarray]:
    """The correction with which spectra are the true ones: that of the setup, and one draw of what it leaves.

    And that draw, at the wavelengths of the correction: true flux less that with the setup's correction, relative.
    """
    known = load_correction(s.correction)
    if not s.effects.instrument:
        return known, np.zeros(0 if known is None else len(known.wavelength))
    if known is None:
        raise XpjaxError(
            'instrument is in units of what a linear correction leaves, and correction is "none": take the standard '
            "one, or instrument = 0"
        )
    root = known.left_at(known.wavelength)
    relative = s.effects.instrument * rng.standard_normal(len(root)) @ root
    design = load_instrument(release=known.release).design(known.wavelength)
    spectrum = np.asarray(design.value, float) * np.asarray(design.scale, float) + known.change
    return dataclasses.replace(known, change=known.change + spectrum * relative), relative
