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
# # Calibrating an exposure, and a survey
#
# **To how many millimagnitudes do XP spectra calibrate an exposure, and a survey?**
#
# A telescope counts photons; Gaia says how many there should have been. Between the two lie the zero-point of the
# exposure, the flat field that twilight did not get right, and a color term, because no two passbands are alike. Here
# we calibrate one exposure as Xiao et al. (2023, 2025) do, then a small survey, and hold the answers against the truth,
# which we know: the survey is simulated (`xpjax survey simulate`), after mini-SiTian.

# %%
import matplotlib.pyplot as plt
import numpy as np

from xpjax.survey import RowFlag, SimulatedSurvey, SurveyEffects, SurveySetup
from xpjax.survey.exposures import CalibrationSettings, ExposureModel, apply_calibration, calibrate

plt.style.use("xpjax.style")

setup = SurveySetup(
    n_exposure=24, n_star=1200, n_night=3, bands=("g",), dither=0.1, effects=SurveyEffects(cloudy=0.3), seed=5
)
survey = SimulatedSurvey(setup)
observations, truth = survey.observe()
print(f"{len(observations):,} measurements on {len(observations.frames)} exposures in {survey.setup.n_night} nights")

# %% [markdown]
# Each row is a star on an exposure: where it fell, what was measured, and what Gaia's spectrum predicts in the survey's
# passband (`model`, the synthetic magnitude; `01_from_gaia_file_to_magnitudes.py` makes such).
#
# ## One exposure
# Its standards give a zero-point, a quadratic in x and y, and a quadratic in color; outliers are found on the way. The
# color term is taken off the standards and not put on the stars: the survey keeps its own natural system, which agrees
# with the models at color 1.

# %%
model = ExposureModel(magnitude_order=0, color_zero=1.0)
size = (0.0, survey.setup.size[0], 0.0, survey.setup.size[1])
one = observations.on_frames(np.array([3]))
solution, stars = calibrate(one, CalibrationSettings(model, size=size))
fits = solution.fits
true = survey.true_zero_points([3], color_zero=1.0)[0]
print(f"zero-point {fits.zero_point[0]:.4f} +- {fits.zero_point_error[0]:.4f}, true {true:.4f}")
print(f"{fits.n_standard[0]} standards, {fits.n_standard[0] - fits.n_used[0]} thrown out; they scatter by", end=" ")
print(f"{1e3 * fits.scatter[0]:.1f} mmag, of which {1e3 * fits.floor[0]:.1f} are not in their stated errors")
error = np.sqrt(np.diag(fits.covariance[0]))
for k in np.flatnonzero(fits.active[0]):
    print(f"  {fits.terms.names[k]:14}{1e3 * fits.value[0, k]:+10.2f} +- {1e3 * error[k]:.2f} mmag")
for k in range(3):
    print(f"a star: {stars.magnitude[k]:.3f} +- {stars.magnitude_error[k]:.3f}")

# %% [markdown]
# Where did a star go? Every row has flags.

# %%
for bits, count in zip(*np.unique(stars.flags, return_counts=True), strict=True):
    print(f"{count:5} {RowFlag.describe(int(bits))}")

# %% [markdown]
# ## A survey
# All exposures are fitted at once. What their residuals have in common at a place on the detector is the flat: stacked
# over exposures it shows structure that no single exposure could, and dithers tell it from errors of the stars. Every
# fourth exposure takes no part: we shall calibrate those afterwards, as one would new data.

# %%
held = np.arange(len(observations.frames)) % 4 == 3
settings = CalibrationSettings(model, size=size, stacked_flat=True, bins=12, smooth=0.7)
plain, _ = calibrate(observations.on_frames(~held), CalibrationSettings(model, size=size))
solution, _ = calibrate(observations.on_frames(~held), settings)

new = observations.on_frames(held)
new_truth = np.isin(observations.frame, np.flatnonzero(held))
true_magnitude, disturbed = truth.magnitude[new_truth], truth.disturbed[new_truth]
for name, one_solution in (("quadratics alone", plain), ("with the stacked flat", solution)):
    rows = apply_calibration(one_solution, new)
    off = rows.magnitude - true_magnitude
    off = off - np.array([np.nanmedian(off[new.frame == k]) for k in range(len(new.frames))])[new.frame]
    bright = ~disturbed & (true_magnitude < 13.5) & np.isfinite(off)
    print(f"{name:22} bright stars of new exposures: off by {1.4826e3 * np.median(np.abs(off[bright])):.2f} mmag")

# %% [markdown]
# Zero-points, and whether their errors are honest. Errors of the models are the same on every exposure: they move all
# zero-points alike and are stated apart, as systematic.

# %%
fits, frames = solution.fits, solution.frames
true = survey.true_zero_points(np.flatnonzero(~held), 1.0)
difference = fits.zero_point - true
common = np.median(difference)
print(f"all zero-points are off by {1e3 * common:+.2f} mmag (stated: {1e3 * np.median(fits.zero_point_common):.2f})")
scatter, stated = np.std(difference - common), np.median(fits.zero_point_error)
print(f"beside each other they scatter by {1e3 * scatter:.2f} mmag (stated: {1e3 * stated:.2f})")
points = solution.to_table()
for night in np.unique(points["night"]):
    rows = points["night"] == night
    said, count = np.unique(points["quality"][rows], return_counts=True)
    clouds = survey.plan.cloud[np.flatnonzero(~held)[rows]].max()
    print(
        f"  night {night}, clouds up to {clouds:.2f} mag:",
        *(f"{c} exposures {q}" for q, c in zip(said, count, strict=True)),
    )

# %%
u = np.linspace(0.02, 0.98, 60)
places = np.stack(np.meshgrid(u, u), axis=-1).reshape(-1, 2)
true_flat = survey.flat(places, grain=False)


def found(one_solution: object) -> np.ndarray:
    """The mean flat of a solution at the places: its polynomials and, where there is one, the stacked flat."""
    fits, flats = one_solution.fits, one_solution.flats
    a, b = 2 * places.T - 1
    zero = np.zeros(len(a))
    design = np.asarray(fits.terms.design(a, b, zero, zero, np.zeros(len(a), np.int32)), float)
    kinds = np.asarray(fits.terms.names)
    chosen = np.array([name.startswith("position") for name in kinds])
    flat = np.nanmean(fits.value, axis=0)[chosen] @ design[chosen]
    if flats is not None:
        flat = flat + flats.at(np.zeros(len(a), int), a, b)
    return flat - np.median(flat)


figure = plt.figure(figsize=(11, 6.4))
panels = figure.subplots(2, 3)
true_flat -= np.median(true_flat)
maps = [("true flat", true_flat, 50), ("quadratic leaves", found(plain) - true_flat, 15)]
maps += [("stacked leaves", found(solution) - true_flat, 15)]
for panel, (title, values, most) in zip(panels[0], maps, strict=True):
    image = panel.imshow(
        1e3 * values.reshape(60, 60), origin="lower", cmap="RdBu_r", vmin=-most, vmax=most, extent=(0, 1, 0, 1)
    )
    panel.set_title(f"{title}: {1e3 * values.std():.1f} mmag rms", fontsize=9)
    panel.set(xticks=[], yticks=[])
    figure.colorbar(image, ax=panel, label="mmag")
panels[1, 0].errorbar(frames.airmass, difference * 1e3, 1e3 * fits.zero_point_error, fmt=".", color="#0072B2")
panels[1, 0].axhline(0, color="0.7", lw=1)
panels[1, 0].set(xlabel="Airmass", ylabel="Zero-point minus truth [mmag]")
rows = apply_calibration(solution, new)
panels[1, 1].plot(new.color, 1e3 * (new.model - rows.magnitude), ".", ms=2, color="0.6")
x = np.linspace(*np.nanpercentile(new.color, [1, 99]), 50)
value, slope = survey.color_term(0, 1.0)
panels[1, 1].plot(x, 1e3 * slope * (x - 1), color="#D55E00", label="true slope at color 1")
panels[1, 1].set(xlabel="BP-RP [mag]", ylabel="Model minus calibrated [mmag]", ylim=(-40, 40))
panels[1, 1].legend()
good = ~disturbed & np.isfinite(rows.magnitude)
off = 1e3 * (rows.magnitude - true_magnitude)
within = f"new exposures, {(np.abs(off[good]) < 40).mean():.0%} within the axes"
panels[1, 2].plot(true_magnitude[good], off[good], ".", ms=2, color="0.6", label=within)
order = np.argsort(true_magnitude[good])
panels[1, 2].plot(
    true_magnitude[good][order], 1e3 * rows.magnitude_error[good][order], color="#0072B2", lw=0.5, label="stated error"
)
panels[1, 2].set(xlabel="g [mag]", ylabel="Calibrated minus truth [mmag]", ylim=(-40, 40))
panels[1, 2].legend()
plt.show()

# %% [markdown]
# One night had clouds. Each exposure's own zero-point takes them up; a frame far below the others of its night is
# flagged (`Settings.cloud`, 0.1 mag). The command line does all of this from tables and a TOML file
# (`xpjax survey calibrate --help`); `09_joint_solution.py` solves for the air, the filters and the stars together.
