"""Mock spectroscopy of simulated stars: labels that their true colors follow, as stellar color regression expects.

Mock XP sources have no labels, so these are made of colors: Teff of BP - RP (Mucciarelli et al. 2021, A&A 653, A90,
dwarfs of [Fe/H] = 0), [Fe/H] of what BP - G is off by from its mean at that color. Reddening is part of the spectra.
"""

from __future__ import annotations

import numpy as np

from xpjax.core.records import Catalogue
from xpjax.survey.columns import OutputColumn, tabulate
from xpjax.survey.simulation.stars import Stars

DWARFS = (0.4929, 0.5092, -0.0353)
"""5040 K / Teff as a polynomial in BP - RP."""
COLORS = (0.4, 1.5)
"""BP - RP [mag] of the stars with labels."""
SHARE = 0.3
"""Part of the stars of these colors that have labels."""
TEFF_ERROR, FEH_ERROR = 50.0, 0.05


def labels_of(stars: Stars, rng: np.random.Generator) -> Catalogue:
    """The table of labels."""
    c, color = stars.table.columns, stars.color
    teff = 5040 / np.polynomial.polynomial.polyval(color, DWARFS)
    inside = (color > COLORS[0]) & (color < COLORS[1])
    blue = np.asarray(c["phot_bp_mean_mag"] - c["phot_g_mean_mag"], float)
    usual = np.polynomial.Polynomial.fit(color[inside], blue[inside], min(4, max(int(inside.sum()) - 1, 0)))
    off = blue - usual(color)
    feh = -0.3 - 0.3 * off / max(float(off[inside].std()), 1e-6)
    chosen = np.flatnonzero(inside & (np.abs(feh + 0.3) < 1) & (rng.random(len(color)) < SHARE))
    n = len(chosen)
    columns = [
        OutputColumn.of("source_id", stars.star[chosen], "", "Identifier of the star"),
        *(OutputColumn.of(name, np.asarray(c[name])[chosen], "deg", what) for name, what in
          (("ra", "Right ascension"), ("dec", "Declination"))),
        OutputColumn.of("teff", teff[chosen] + rng.normal(0, TEFF_ERROR, n), "K", "Effective temperature"),
        OutputColumn.of("teff_error", np.full(n, TEFF_ERROR), "K", "Error of teff"),
        OutputColumn.of("feh", feh[chosen] + rng.normal(0, FEH_ERROR, n), "dex", "Metallicity"),
        OutputColumn.of("feh_error", np.full(n, FEH_ERROR), "dex", "Error of feh"),
        OutputColumn.of("e_bp_rp", np.zeros(n), "mag", "Reddening E(BP - RP) that the labels do not know of"),
        *(OutputColumn.of(name, np.asarray(c[name], float)[chosen], "mag", f"Gaia's {name[5:7].upper()}") for name in
          ("phot_bp_mean_mag", "phot_rp_mean_mag")),
    ]  # fmt: skip
    return tabulate(columns, None, {})
