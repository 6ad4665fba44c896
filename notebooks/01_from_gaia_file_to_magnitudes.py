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
# # From a Gaia file to magnitudes
#
# **What are magnitudes from XP spectra worth, and why do their errors need all the correlations?**
#
# Gaia publishes the low-resolution spectra of 220 million stars as coefficients of basis functions: 55 for the blue
# photometer (BP) and 55 for the red one (RP), with their errors and correlations. A spectrum is their product with one
# constant matrix, and so is a set of magnitudes. Here we go from a file to both, and look at what errors are worth.

# %%
import dataclasses
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import xpjax
from xpjax import Status
from xpjax.xp import simulate_sources

plt.style.use("xpjax.style")

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A file
# Whatever the archive gives will do: csv, csv.gz, ecsv, FITS, VOTable, Avro, Parquet. We have none at hand, so we write
# one of 300 simulated stars (`xpjax simulate` does the same), and spoil two rows as real files are spoilt: one star has
# no BP spectrum, another a coefficient that is not a number.

# %%
mock = simulate_sources(300, seed=5)
value = mock.coefficients.value.copy()
value[10, mock.release.slices[0]] = np.nan
value[20, 60] = np.nan
spoilt = dataclasses.replace(mock, coefficients=dataclasses.replace(mock.coefficients, value=value))
xpjax.write(folder / "XP_CONTINUOUS_RAW.csv.gz", spoilt)

sources = xpjax.read(folder / "XP_CONTINUOUS_RAW.csv.gz")
print(f"{len(sources)} sources of {sources.release.name}, coefficients {sources.coefficients.value.shape}")
print("columns beside them:", ", ".join(list(sources.columns)[:8]))

# %% [markdown]
# ## Magnitudes
# One call, two published systems at once. Bad rows cost that row only, and `status` says why.

# %%
stars = xpjax.photometry(sources, ["JPLUS", "SDSS"])
print(stars.magnitude.shape, "magnitudes in", *stars.system.names)
for row in np.flatnonzero(stars.status & (Status.BP_MISSING | Status.BP_BAD | Status.RP_BAD)):
    print(f"row {row}: {Status.describe(int(stars.status[row]))}; {np.isfinite(stars.magnitude[row]).sum()} bands left")

xpjax.write(folder / "magnitudes.fits", stars.catalogue())
print(f"{(folder / 'magnitudes.fits').stat().st_size / 1e3:.0f} kB with names and units as GaiaXPy has them")

# %% [markdown]
# The star without BP keeps the bands that lie wholly in RP.
#
# ## Spectra
# The default grid is that of the archive, 336 to 1020 nm in steps of 2 nm; any other will do.

# %%
bright, faint = np.argsort(sources.columns["phot_g_mean_mag"])[[5, -5]]
spectra = xpjax.spectra(sources[[bright, faint]], correlation=True)
covariance = spectra.covariance(0)
correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))

figure = plt.figure(figsize=(9, 6))
grid = figure.add_gridspec(2, 2, width_ratios=(1.4, 1))
for k, star in enumerate((bright, faint)):
    axes = figure.add_subplot(grid[k, 0])
    flux, error = 1e18 * spectra.flux[k], 1e18 * spectra.flux_error[k]
    axes.fill_between(spectra.wavelength, flux - error, flux + error, color="#0072B2", alpha=0.3, lw=0)
    axes.plot(spectra.wavelength, flux, color="#0072B2", lw=1)
    axes.set_title(f"G = {sources.columns['phot_g_mean_mag'][star]:.1f}", loc="right", fontsize=10)
    axes.set(xlabel="Wavelength [nm]", ylabel="Flux [1e-18 W m$^{-2}$ nm$^{-1}$]")
axes = figure.add_subplot(grid[0, 1])
ends = (spectra.wavelength[0], spectra.wavelength[-1])
image = axes.imshow(correlation, origin="lower", extent=(*ends, *ends), cmap="RdBu_r", vmin=-1, vmax=1)
figure.colorbar(image, ax=axes, label="correlation")
axes.set(xlabel="Wavelength [nm]", ylabel="Wavelength [nm]")
axes = figure.add_subplot(grid[1, 1])
for band, color in (("uJAVA", "#7B3294"), ("gJPLUS", "#0072B2"), ("zJPLUS", "#D55E00")):
    k = stars.system.names.index(band)
    axes.semilogy(
        sources.columns["phot_g_mean_mag"], 1e3 * stars.magnitude_error[:, k], ".", ms=3, color=color, label=band
    )
axes.set(xlabel="G [mag]", ylabel="Error [mmag]")
axes.legend()
plt.show()

# %% [markdown]
# ## Why errors need the correlations
# Samples of a spectrum are combinations of the same coefficients, so that neighbors go up and down together (upper
# right). Errors that leave the correlations of the coefficients out are wrong in both directions, by a factor of two in
# the blue. Let us draw 2,000 coefficient vectors of one star from their covariance, and look at the scatter.

# %%
c = sources.coefficients
rng = np.random.default_rng(1)
draws = np.repeat(c.value[[bright]], 2000, axis=0).astype(float)
for xp, rows in zip(sources.release.xp, sources.release.slices, strict=True):
    matrix = xpjax.covariance_matrix(sources[[bright]], xp)[0]
    draws[:, rows] += rng.multivariate_normal(np.zeros(len(matrix)), matrix, 2000)
scatter = xpjax.photometry(draws, "JPLUS", errors=False).magnitude.std(axis=0)
jplus = xpjax.photometry(sources[[bright]], "JPLUS")
plain = xpjax.photometry(
    dataclasses.replace(sources[[bright]].coefficients, correlation=np.zeros_like(c.correlation[[bright]])), "JPLUS"
)
print("scatter of draws, stated error, error without correlations [mmag]")
for k in (0, 5, 7, 11):
    three = scatter[k], jplus.magnitude_error[0, k], plain.magnitude_error[0, k]
    print(f"  {jplus.system.names[k]:8}" + "".join(f"{1e3 * x:8.2f}" for x in three))

# %% [markdown]
# ## How fast
# The first call compiles; from then on two idle cores do hundreds of thousands of sources a second with errors, and
# millions without (large samples: README). `07_an_all_sky_catalogue.py` has the rest of the way to 220 million.

# %%
many = simulate_sources(10_000, seed=6)
for errors in (True, False):
    xpjax.photometry(many, "JPLUS", errors=errors)
    start = time.perf_counter()
    xpjax.photometry(many, "JPLUS", errors=errors)
    seconds = time.perf_counter() - start
    print(f"12 magnitudes {'with' if errors else 'without'} errors: {len(many) / seconds:,.0f} sources/s")
