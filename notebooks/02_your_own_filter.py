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
# # Your own filter
#
# **What would my filter measure of the stars that Gaia has seen, and what does the air do to it?**
#
# A transmission curve is all that synthetic photometry needs. Here we take one from a text file, look at it, make
# magnitudes of Gaia stars with it, and see how a second telescope differs from the first. The stars are simulated; any
# file of XP coefficients will do in their place.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import xpjax
from xpjax.plot import plot_passbands
from xpjax.xp import simulate_sources

plt.style.use("xpjax.style")

stars = simulate_sources(5000, seed=1)

# %% [markdown]
# ## From a text file
# Two columns, in Angstrom here: xpjax sees that, and says so in the passband's `meta`.

# %%
folder = Path(tempfile.mkdtemp())
angstrom = np.arange(4700.0, 5601.0, 10.0)
curve = 0.82 / (1 + np.exp(-(angstrom - 4900) / 25)) / (1 + np.exp((angstrom - 5400) / 30))
np.savetxt(folder / "mine.dat", np.stack([angstrom, curve], axis=1), header="wavelength transmission")

mine = xpjax.load_passbands(folder / "mine.dat")
band = mine["mine"]
print(band, band.meta)
print(f"mean {band.mean_wavelength:.2f} nm, width {band.fwhm:.2f} nm, {band.share_outside():.2%} outside XP")

# %% [markdown]
# ## Magnitudes
# A passband stands wherever the name of a published system does. Errors come with it, from the full correlations of the
# coefficients.

# %%
result = xpjax.photometry(stars, [mine, xpjax.load_system("JPLUS")])
difference = result["mine"] - result["J0515"]
color = result["gJPLUS"] - result["iJPLUS"]
print(f"median error in the new band: {1000 * np.nanmedian(result.magnitude_error[:, 0]):.1f} mmag")

figure = plt.figure(figsize=(7, 4))
axes = figure.subplots()
axes.scatter(color, difference, s=2, color="#0072B2", rasterized=True)
axes.set(xlabel="g \u2212 i (J-PLUS) [mag]", ylabel="mine \u2212 J0515 [mag]", xlim=(-0.7, 4), ylim=(-0.4, 0.4))
seen = (np.abs(difference) < 0.4) & (color > -0.7) & (color < 4)
axes.set_title(f"{seen.sum():,} of {len(stars):,} simulated stars within the axes")
plt.show()

# %% [markdown]
# ## A telescope as a text file
# An atmosphere, mirrors, filters and a detector multiply. `filters/minisitian/system.toml` describes mini-SiTian with
# stand-in parts; every continuous part of it can be changed, and differentiated.

# %%
from xpjax.synthetic import read_chain

chain = read_chain("minisitian")
print(chain)
plot_passbands([chain.passbands(), xpjax.load_passbands("sdss2010:g,r,i")])

# %%
low = xpjax.photometry(stars, chain.with_parameters(airmass=1.0).passbands(), errors=False)
high = xpjax.photometry(stars, chain.with_parameters(airmass=2.0).passbands(), errors=False)
change = 1000 * (high["g"] - low["g"])
for a, b in ((0.0, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 3.0)):
    chosen = (color > a) & (color < b)
    print(f"g - i {a} to {b}: airmass 2 instead of 1 changes g by {np.nanmedian(change[chosen]):+.1f} mmag")

# %% [markdown]
# These are the second-order extinction terms of the band, without a single observation. Light that the atmosphere takes
# from all stars alike has dropped out: magnitudes are of the mean flux through the curve.

# %% [markdown]
# ## Keep it, and give it to others
# Own files are ECSV, a file for each band. GaiaXPy's users can have the system too.

# %%
from xpjax.synthetic import write_gaiaxpy, write_passbands

write_passbands(folder / "mine", mine)
print(*sorted(p.name for p in (folder / "mine").iterdir()))
print(write_gaiaxpy(folder / "gaiaxpy", xpjax.passband_system(mine)).keys())
