"""Cuts that make stars standards: named, documented, adjustable; each says what it took, or what it would have needed.

A cut keeps a star where its condition holds. Where the columns it needs are absent it does not run, and says so; where
a value is NaN the star is kept (unknown is not bad) unless the cut is about the value being known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from xpjax.core.archive import DROPPED
from xpjax.core.errors import XpjaxError
from xpjax.core.release import DR3

Columns = Mapping[str, np.ndarray]
Limits = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Cut:
    """A condition: what it says, the columns and limits (with their defaults) it needs, and the rows (n,) it keeps."""

    meaning: str
    needs: tuple[str, ...]
    limits: Limits
    keep: Callable[[Columns, Limits], np.ndarray]


def corrected_excess(bp_rp: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """C*, the excess factor less its mean for the color (Riello et al. 2021, A&A 649, A3, table 2)."""
    x = np.asarray(bp_rp, float)
    blue = 1.154360 + 0.033772 * x + 0.032277 * x**2
    middle = 1.162004 + 0.011464 * x + 0.049255 * x**2 - 0.005879 * x**3
    red = 1.057572 + 0.140537 * x
    return np.asarray(excess, float) - np.where(x < 0.5, blue, np.where(x < 4, middle, red))


def excess_scatter(g: np.ndarray) -> np.ndarray:
    """One sigma of C* for well-behaved stars of magnitude G (Riello et al. 2021, equation 18)."""
    return 0.0059898 + 8.817481e-12 * np.asarray(g, float) ** 7.618399


def _lonely(c: Columns, limits: Limits) -> np.ndarray:
    """Stars whose neighbors within `radius` on their own frame give less than `share` of their own flux."""
    from scipy.spatial import cKDTree

    from xpjax.survey.matching import unit_vectors

    ra, dec, magnitude = (np.asarray(c[name], float) for name in ("ra", "dec", "magnitude"))
    good = np.flatnonzero(np.isfinite(ra + dec + magnitude))
    keep = np.ones(len(ra), bool)
    if not len(good):
        return keep
    frame = np.asarray(c.get("frame", np.zeros(len(ra))), float)[good]
    # Frames one apart in a fourth dimension: a star on another frame is no neighbor of itself.
    tree = cKDTree(np.column_stack([unit_vectors(ra[good], dec[good]), frame]))
    pairs = tree.query_pairs(2 * np.sin(np.deg2rad(limits["radius"] / 3600) / 2), output_type="ndarray")
    flux = 10 ** (-0.4 * (magnitude[good] - np.median(magnitude[good])))
    a, b = pairs.T
    other = np.bincount(a, flux[b], len(good)) + np.bincount(b, flux[a], len(good))
    keep[good] = other < limits["share"] * flux
    return keep


def _below(name: str, limit: str) -> Callable[[Columns, Limits], np.ndarray]:
    return lambda c, p: ~(np.asarray(c[name], float) >= p[limit])


def _above(name: str, limit: str) -> Callable[[Columns, Limits], np.ndarray]:
    return lambda c, p: ~(np.asarray(c[name], float) <= p[limit])


CUTS: dict[str, Cut] = {
    "magnitude_error": Cut(
        "Magnitude error below magnitude_error [mag]: 0.01 in both papers' broad bands (J-PLUS: 0.03 in u, J0378, "
        "J0395; 0.02 in J0410, J0430, g).",
        ("magnitude_error",), {"magnitude_error": 0.01}, _below("magnitude_error", "magnitude_error"),
    ),
    "flags": Cut(
        "SExtractor's FLAGS and the mask `flags` have no bit in common: by default any cuts (mini-SiTian: FLAG = 0).",
        ("flags",), {"flags": 0xFFFF}, lambda c, p: (_whole(c["flags"]) & int(p["flags"])) == 0,
    ),
    "saturation": Cut(
        "Instrumental magnitude fainter than `saturation`; off until it is set.",
        ("magnitude",), {"saturation": -np.inf}, _above("magnitude", "saturation"),
    ),
    "neighbors": Cut(
        "Neighbors on the frame within `radius` [arcsec], the longer side of an XP window, give less than `share` of "
        "the flux.",
        ("ra", "dec", "magnitude"), {"radius": 3.5, "share": 0.01}, _lonely,
    ),
    "ruwe": Cut("Gaia's RUWE below `ruwe`.", ("ruwe",), {"ruwe": 1.4}, _below("ruwe", "ruwe")),
    "excess_factor": Cut(
        "phot_bp_rp_excess_factor < 1.3 + 0.06 (BP-RP)^2 (both papers).",
        ("phot_bp_rp_excess_factor", "bp_rp"), {"excess": 1.3, "excess_slope": 0.06},
        lambda c, p: ~(c["phot_bp_rp_excess_factor"] >= p["excess"] + p["excess_slope"] * np.square(c["bp_rp"])),
    ),
    "corrected_excess": Cut(
        "|C*| below `excess_sigma` of its scatter at the star's G (Riello et al. 2021).",
        ("phot_bp_rp_excess_factor", "bp_rp", "phot_g_mean_mag"), {"excess_sigma": 3.0},
        lambda c, p: ~(
            np.abs(corrected_excess(c["bp_rp"], c["phot_bp_rp_excess_factor"]))
            >= p["excess_sigma"] * excess_scatter(c["phot_g_mean_mag"])
        ),
    ),
    "variability": Cut(
        "phot_variable_flag is not VARIABLE.",
        ("phot_variable_flag",), {}, lambda c, p: np.char.strip(np.asarray(c["phot_variable_flag"], str)) != "VARIABLE",
    ),
    "color": Cut(
        "Color within color_from..color_to [mag].",
        ("color",), {"color_from": -np.inf, "color_to": np.inf},
        lambda c, p: ~((c["color"] < p["color_from"]) | (c["color"] > p["color_to"])),
    ),
    "g": Cut(
        "Gaia's G within g_from..g_to [mag]: 14 and fainter beside PS1, whose bright stars drift by 60..90 mmag.",
        ("phot_g_mean_mag",), {"g_from": -np.inf, "g_to": np.inf},
        lambda c, p: ~((c["phot_g_mean_mag"] < p["g_from"]) | (c["phot_g_mean_mag"] > p["g_to"])),
    ),
    "main_sequence": Cut(
        "log g > -3.4e-4 Teff + 5.8 (both papers).",
        ("teff", "logg"), {"gravity_slope": -3.4e-4, "gravity": 5.8},
        lambda c, p: c["logg"] > p["gravity_slope"] * c["teff"] + p["gravity"],
    ),
    "temperature": Cut(
        "Teff within teff_from..teff_to [K] (both papers).",
        ("teff",), {"teff_from": 5500.0, "teff_to": 6500.0},
        lambda c, p: (c["teff"] > p["teff_from"]) & (c["teff"] < p["teff_to"]),
    ),
    "metallicity": Cut(
        "[Fe/H] above feh_from (both papers).", ("feh",), {"feh_from": -1.0}, lambda c, p: c["feh"] > p["feh_from"]
    ),
    "snr_g": Cut(
        "LAMOST's signal-to-noise ratio in g above snr_g (both papers).",
        ("snrg",), {"snr_g": 20.0}, lambda c, p: c["snrg"] > p["snr_g"],
    ),
}  # fmt: skip
"""All cuts by name. Columns have Gaia's names, and teff, logg, feh, snrg; `magnitude`, `color`, ... are the band's."""

PRESETS: dict[str, tuple[str, ...]] = {
    "mini_sitian": ("magnitude_error", "flags"),
    "jplus": ("magnitude_error", "flags"),
    "vetted": ("flags", "saturation", "neighbors", "ruwe", "corrected_excess", "variability"),
    "scr": ("main_sequence", "temperature", "metallicity", "snr_g", "excess_factor", "magnitude_error"),
}
"""Sets of cuts: of the papers' standards, of vetted standards, and of both papers' stellar color regression."""

BAND_LIMITS: dict[str, dict[str, float]] = {
    "jplus": {**dict.fromkeys(("u", "J0378", "J0395"), 0.03), **dict.fromkeys(("J0410", "J0430", "g"), 0.02)}
}
"""Magnitude errors that a preset has in some bands, for `magnitude_error`; 0.01 in the others."""


def _whole(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.asarray(values, float)).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Selected:
    """Rows (n,) that all cuts keep; how many each removed (alone), and the columns that some would have needed."""

    keep: np.ndarray
    removed: Mapping[str, int]
    not_run: Mapping[str, tuple[str, ...]]

    def check_ran(self, cuts: Sequence[str], where: str) -> None:
        """Raise XpjaxError for a cut that was asked for by its own name, not by a preset's, and could not be made.

        Not for columns that no later release than Gaia DR3 has: such a cut is left out, as `lines` say.
        """
        for name in cuts:
            if not {*self.not_run.get(name, ())} <= {*DROPPED}:
                raise XpjaxError(
                    f"[selection] the cut {name!r} cannot be made: {where} has no column "
                    f"{', '.join(self.not_run[name])}; name it in [columns], or leave the cut out"
                )

    def lines(self) -> list[str]:
        """What happened, one line for each cut."""
        done = [f"{name}: {n:,} removed" for name, n in self.removed.items()]
        return done + [f"{name}: not run, no column {absent_columns(need)}" for name, need in self.not_run.items()]


def absent_columns(absent: Sequence[str]) -> str:
    """Columns that are absent, and that it is no mistake where Gaia no longer has them."""
    gone = f" (which releases after {DR3.name} lack)" if {*absent} <= {*DROPPED} else ""
    return ", ".join(absent) + gone


def expand(cuts: Sequence[str]) -> list[str]:
    """Names of cuts, presets replaced by theirs. Raises ValueError for an unknown name."""
    out: list[str] = []
    if isinstance(cuts, str):
        raise XpjaxError(f"cuts = {cuts!r}: expected a list, as in cuts = [{cuts!r}]")
    for name in cuts:
        if name not in CUTS and name not in PRESETS:
            raise XpjaxError(f"no cut {name!r}; there are {sorted(CUTS)} and the presets {sorted(PRESETS)}")
        out += [cut for cut in PRESETS.get(name, (name,)) if cut not in out]
    return out


def check_limits(cuts: Sequence[str], limits: Limits) -> None:
    """Raise XpjaxError for a limit that none of the cuts has, which would change nothing, and for what is no number."""
    names = expand(cuts)
    if not isinstance(limits, Mapping):
        raise XpjaxError(f"limits = {limits!r}: expected a table, as in limits = {{ ruwe = 1.3 }}")
    known = sorted({limit for name in names for limit in CUTS[name].limits})
    strange = sorted(set(limits) - {*known})
    if strange and not names:
        raise XpjaxError(f"the limit {strange[0]!r} has no effect without cuts: name a cut, or leave it out")
    if strange:
        raise XpjaxError(f"no limit {strange[0]!r} in the cuts {names}; they have {known}")
    for name, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise XpjaxError(f"the limit {name} = {value!r}: expected a number")


def select(columns: Columns, cuts: Sequence[str], limits: Limits | None = None, band: str = "") -> Selected:
    """Select standards by named cuts.

    A cut keeps a star where its condition holds. Where columns that a cut needs are absent it does not run, and the
    result says so; where a value is NaN the star is kept, unless the cut is about the value being known.

    Parameters
    ----------
    columns : mapping of str to (n,) array
        Columns with Gaia's names, and `magnitude`, `magnitude_error` and `color` [mag] of the band; `frame`, where rows
        are of several: whole numbers, by which neighbors are told.
    cuts : sequence of str
        Names of cuts, or of presets such as "mini_sitian", "jplus", "vetted" and "scr".
    limits : mapping of str to float, optional
        Limits that replace the defaults of the cuts, by name.
    band : str
        Name of the band; some presets have limits for single bands.

    Returns
    -------
    Selected
        Rows that all cuts keep, how many each removed, and cuts that did not run.

    Raises
    ------
    XpjaxError
        If a cut is unknown, or no chosen cut has a limit.

    Examples
    --------
    >>> stars = {"ruwe": np.array([1.0, 1.5, np.nan]), "flags": np.array([0, 0, 4])}
    >>> found = xpjax.survey.select(stars, ["ruwe", "flags"], {"ruwe": 1.3})
    >>> found.keep.tolist(), found.removed
    ([True, False, False], {'ruwe': 1, 'flags': 1})
    """
    names = expand(cuts)
    given = dict(limits or {})
    check_limits(cuts, given)
    for preset in cuts:
        special = BAND_LIMITS.get(preset, {})
        if band in special:
            given.setdefault("magnitude_error", special[band])
    n = len(next(iter(columns.values())))
    keep, removed, not_run = np.ones(n, bool), {}, {}
    for name in names:
        cut = CUTS[name]
        missing = tuple(need for need in cut.needs if need not in columns)
        if missing:
            not_run[name] = missing
            continue
        with np.errstate(invalid="ignore"):
            kept = np.asarray(cut.keep(columns, {**cut.limits, **given}), bool)
        removed[name] = int(np.count_nonzero(~kept))
        keep &= kept
    return Selected(keep, removed, not_run)
