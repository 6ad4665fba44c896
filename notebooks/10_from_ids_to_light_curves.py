# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From source ids to light curves
#
# **How does a variable star look through any filter, transit by transit?**
#
# Where do spectra come from? From the archive, by source id; or from a model, seen as Gaia would see it; and from DR4
# on from every single transit. This notebook needs no network: where the archive would answer, simulated sources stand
# in.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import xpjax
from xpjax.extinction import add_ebv

plt.style.use("xpjax.style")

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## From ids to spectra
# With a network `xpjax fetch --ids stars.csv -o xp.parquet`, or `sources = xpjax.fetch("stars.csv")`, asks the archive
# for the spectra of any number of ids, 5,000 at a time. What comes home is kept, and a fetch that was stopped goes on.
# The columns of gaia_source come too. Here are 200 stars as if they had been fetched.

# %%
xpjax.write(folder / "xp.parquet", xpjax.simulate_sources(200, seed=10))
sources = xpjax.read(folder / "xp.parquet", keep=["ra", "dec", "phot_g_mean_mag", "bp_rp"])
stars = xpjax.photometry(sources, "JPLUS")
print(f"{len(sources)} sources of {sources.release.name}, {stars.magnitude.shape[1]} magnitudes of each")

# %% [markdown]
# ## Reddening by position
# `xpjax ebv xp.parquet -o with_ebv.parquet` adds E(B-V) and its error from a map of dust. Maps are large, and not part
# of xpjax: where one is missing, the error says what to download and where it belongs.

# %%
try:
    reddened = add_ebv(folder / "xp.parquet", "sfd", folder=folder)
except xpjax.XpjaxError as error:
    print(str(error).replace(str(folder), "FOLDER").partition(". dustmaps keeps")[0])

# %% [markdown]
# ## From a spectrum to XP
# `xpjax.observe` turns any spectrum into what Gaia would publish of it: coefficients, errors and correlations. We take
# three stars as Planck has them, with a few lines, behind dust of E(B-V) = 0.1, at G of about 15.

# %%
wavelength = np.arange(330.0, 1051.0, 0.25)


def spectrum(temperature: float) -> np.ndarray:
    """A black body [W m-2 nm-1] with three lines, 3e-17 at 600 nm."""
    power = wavelength**-5 / np.expm1(1.43877688e7 / (wavelength * temperature))
    for line, depth, width in ((486.3, 0.3, 1.5), (517.0, 0.15, 4.0), (656.5, 0.3, 1.5)):
        power *= 1 - depth * np.exp(-0.5 * ((wavelength - line) / width) ** 2)
    return 3e-17 * power / np.interp(600.0, wavelength, power)


temperatures = (4200.0, 6000.0, 9000.0)
dust = np.asarray(xpjax.extinction.transmission(xpjax.extinction.extinction_curve(wavelength), 0.1), float)
flux = np.stack([spectrum(temperature) for temperature in temperatures]) * dust
seen = xpjax.observe(wavelength, flux, noise=1)
clean = xpjax.observe(wavelength, flux)
for row, temperature in enumerate(temperatures):
    g, color, misfit = (seen.columns[name][row] for name in ("phot_g_mean_mag", "bp_rp", "xp_misfit"))
    print(f"{temperature:.0f} K: G = {g:.2f}, BP-RP = {color:.2f}; XP cannot follow {1e3 * misfit:.1f} per mille of it")

# %% [markdown]
# The lines are blurred, the slopes are right, and the noise is that of a star of this magnitude.

# %%
spectra = xpjax.spectra(seen)
figure = plt.figure(figsize=(9, 4.5))
axes = figure.subplots()
for row, (temperature, color) in enumerate(zip(temperatures, ("#D55E00", "#009E73", "#0072B2"), strict=True)):
    axes.plot(wavelength, flux[row], color=color, lw=0.8, alpha=0.5)
    low, high = (spectra.flux[row] + sign * spectra.flux_error[row] for sign in (-1, 1))
    axes.fill_between(spectra.wavelength, low, high, color=color, alpha=0.5, lw=0)
    axes.plot(spectra.wavelength, spectra.flux[row], color=color, lw=1, label=f"{temperature:.0f} K")
axes.set(xlim=(330, 1050), ylim=(0, None), xlabel="Wavelength [nm]", ylabel="Flux [W m$^{-2}$ nm$^{-1}$]")
axes.legend(title="thin: as given; thick: as XP sees it")
plt.show()

# %% [markdown]
# Magnitudes of the coefficients, against the passbands integrated over the spectrum itself: what the way through XP
# costs. Narrow bands on a line lose most.

# %%
bands = xpjax.load_passbands("jplus")
direct = np.stack([band.flux_zero_point - 2.5 * np.log10(band.mean_flux(wavelength, flux)) for band in bands], axis=1)
through = xpjax.photometry(clean, bands, errors=False)
print("  ".join(["[mmag] ", *(f"{name:>7}" for name in bands.names)]))
for row, temperature in enumerate(temperatures):
    print("  ".join([f"{temperature:.0f} K ", *(f"{1e3 * x:7.1f}" for x in (through.magnitude - direct)[row])]))

# %% [markdown]
# ## Epoch spectra
# DR4 brings the spectra of single transits: rows with `source_id`, `transit_id` and `time`, many without BP or without
# RP, here a third. Everything that takes sources takes them. An RR Lyrae star of period 0.5612 d, 60 transits:

# %%
PERIOD = 0.5612


def pulsation(time: np.ndarray) -> np.ndarray:
    """A rise in a sixth of the period, in magnitudes; BP has 1.3 times the amplitude of RP."""
    phase = (time / PERIOD) % 1
    change = np.interp(phase, [0.0, 0.15, 0.6, 0.85, 1.0], [-0.5, -0.2, 0.2, 0.25, -0.5])
    return np.stack([change, change / 1.3], axis=-1)


epochs = xpjax.simulate_sources(1, seed=15, transits=60, variability=pulsation)
print(epochs)
transits = xpjax.photometry(epochs, "SDSS:g,r,i")
for name in transits.system.names:
    print(f"{name}: {np.isfinite(transits[name]).sum()} of {len(transits)} transits have a magnitude")

# %% [markdown]
# ## A light curve
# One source, through any filters; folded with the period that is found, or with one that is known; averaged in bins.

# %%
curve = transits.lightcurve(epochs.source_id[0])
found = curve.periods()
print(found)
print(f"true period {PERIOD} d, found {found.period:.6f} d")
print("chi2 about the mean, for a constant star 1:", np.round(curve.chi2(), 0))

# %%
curve.fold(PERIOD).plot()

# %%
binned = curve.fold(PERIOD).bin(10)
print(binned.to_table()["phase", "Sdss_mag_g", "Sdss_mag_error_g", "Sdss_number_g"])

# %% [markdown]
# ## Another release
# Sources know the release that they are of; DR4 has 51 coefficients for BP. Instruments and systems belong to a
# release, and those of another are refused, not misapplied.

# %%
xpjax.write(folder / "dr4.parquet", xpjax.simulate_sources(20, seed=3, release="Gaia DR4"))
newer = xpjax.read(folder / "dr4.parquet")
print(newer.release)
try:
    xpjax.photometry(newer, xpjax.load_system("JPLUS"))
except xpjax.XpjaxError as error:
    print(str(error).replace(str(folder) + "/", ""))
