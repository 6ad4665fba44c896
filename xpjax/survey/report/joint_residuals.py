"""What a report shows of the residuals of a joint solution: fitted beside held out, against everything, and by star."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from xpjax.core.errors import say
from xpjax.survey import RowFlag
from xpjax.survey.report.drawing import (
    BLUE,
    GREEN,
    MMAG,
    by_band,
    draw_maps,
    dress,
    ends_of,
    in_parts,
    label_of,
    log_scale,
    of_the_band,
    panels,
    plain,
    rounded_text,
)
from xpjax.survey.report.joint_evidence import JointEvidence
from xpjax.survey.report.layout import Figure, Table
from xpjax.survey.report.residual_panels import (
    FEWEST,
    Quantity,
    Residuals,
    pull_figures_of,
    residual_figures_of,
    usual_quantities,
)
from xpjax.survey.report.statistics import ENOUGH, Missing, median, spread, trend

if TYPE_CHECKING:
    import matplotlib.figure

WORST = 15


def how_to_hold_out() -> str:
    """What residuals that are held out need."""
    return f"nothing was kept back ({say('held_out_stars= of solve_joint', '[joint] hold_out_stars = 10')})"


# --- numbers ----------------------------------------------------------------------------------------------------------


def quality_table(evidence: JointEvidence) -> Table:
    """Measurements, residuals and floors of each band."""
    found, held = evidence.solution, evidence.held_out
    error = np.full(len(held), np.nan) if found.held_out is None else found.held_out.error
    rows = list[tuple[str | int, ...]]()
    for k, band in enumerate(found.bands):
        mine = evidence.of_band(band)
        floor = found.floor[k]
        total = np.hypot(np.asarray(evidence.rows["magnitude_error"], float), floor)
        with np.errstate(invalid="ignore", divide="ignore"):
            pulls = spread((found.residual / total)[mine & found.used])[0], spread((held / error)[mine])[0]
        rows.append(
            (label_of(band), int((found.frames.band == band).sum()), int(np.isfinite(found.magnitude[:, k]).sum()),
             int(found.left_out[:, k].sum()), int((found.used & mine).sum()), int((found.clipped & mine).sum()),
             rounded_text(MMAG * floor), *(rounded_text(MMAG * v) for v in spread(found.residual[mine & found.used])),
             rounded_text(pulls[0]), int(np.isfinite(held[mine]).sum()),
             *(rounded_text(MMAG * v) for v in spread(held[mine])), rounded_text(pulls[1]))
        )  # fmt: skip
    header = (
        "band", "frames", "stars", "left out", "used", "clipped", "error floor", "fitted: 1.48 MAD", "std", "pull",
        "held out", "1.48 MAD", "std", "pull",
    )  # fmt: skip
    caption = (
        "Residuals, a star's magnitude less its calibrated measurements [mmag]. Left out: stars with too few "
        "measurements. Fitted: of the measurements used; they have part in their stars' magnitudes, and scatter "
        "by less than their errors. Held out: of stars and exposures that were kept back. A pull is 1.48 MAD of "
        "residual / error; held out, the error has that of the star's magnitude too."
    )
    if found.held_out is None:
        caption += f" Here {how_to_hold_out()}."
    return Table(caption, header, rows)


def outlier_table(evidence: JointEvidence) -> Table:
    """The exposures that lost most measurements as outliers."""
    found = evidence.solution
    frame, n = evidence.rows["frame"], len(found.frames)
    clipped, used = (np.bincount(frame, mask, n).astype(int) for mask in (found.clipped, found.used))
    rms = found.frame_rms()
    worst = [k for k in np.argsort(-clipped / np.maximum(clipped + used, 1), kind="stable")[:WORST] if clipped[k]]
    share = 100 * clipped / np.maximum(clipped + used, 1)
    rows = [
        (str(found.frames.name(int(k))), int(used[k]), f"{clipped[k]:,} ({share[k]:.1f} %)",
         rounded_text(MMAG * rms[k]))
        for k in worst
    ]  # fmt: skip
    caption = f"The frames that lost most measurements as outliers, {WORST} at most; rms of those used [mmag]."
    return Table(caption, ("frame", "used", "clipped", "rms"), rows)


def flag_table(evidence: JointEvidence) -> Table:
    """Measurements by their flags."""
    counts = RowFlag.counts(evidence.solution.flags)
    rows = [(str(bit.name), n, bit.meaning) for bit, n in counts.items()]
    return Table("Flags of measurements.", ("flag", "measurements", "meaning"), rows)


# --- figures ----------------------------------------------------------------------------------------------------------


def residual_figures(evidence: JointEvidence) -> tuple[list[Figure], dict[str, str]]:
    """A figure of each band with a panel for each quantity that varies; and the panels that were not drawn."""
    rows, more, found = evidence.rows, say("catalogues=", "--catalogue"), {}
    for band in evidence.bands:
        mine = evidence.of_band(band) & np.isfinite(np.fmax(evidence.fitted, evidence.held_out))
        fitted, held = evidence.fitted[mine], evidence.held_out[mine]
        if (number := np.isfinite(fitted).sum()) < FEWEST:
            continue
        said = f"Residuals{of_the_band(band)} of {number:,} measurements that were fitted (points)"
        if np.isfinite(held).any():
            said += f", and of {np.isfinite(held).sum():,} that were kept back"
        usual = usual_quantities(
            rows, evidence.solution.frames, evidence.color_name(band), more, f"columns.x, columns.y, or {more}"
        )
        against = [Quantity("magnitude", "star's magnitude [mag]", rows["star_magnitude"]), *usual]
        against = [dataclasses.replace(one, values=one.values[mine]) for one in against]
        found[band] = Residuals(fitted, held, against, said)
    if not found:
        raise Missing(f"no band has {FEWEST} measurements that were used")
    return residual_figures_of(found, len(evidence.bands) > 1)


def pull_figures(evidence: JointEvidence) -> list[Figure]:
    """Histograms of residual / error, fitted and held out. Raises Missing."""
    found, error = evidence.solution, np.asarray(evidence.rows["magnitude_error"], float)
    pulls = dict[str, dict[str, np.ndarray]]()
    for band in evidence.bands:
        mine = evidence.of_band(band)
        with np.errstate(invalid="ignore", divide="ignore"):
            total = np.hypot(error[mine], found.floor[found.bands.index(band)])
            pulls[band] = {"fitted": evidence.fitted[mine] / total}
            if found.held_out is not None:
                pulls[band]["held out"] = evidence.held_out[mine] / found.held_out.error[mine]
    caption = (
        "Residuals in units of their errors (fitted: of the measurements, with the error floor; held out: with that of "
        "the star's magnitude too)"
    )
    return pull_figures_of(pulls, caption)


def sky_residual_figures(evidence: JointEvidence) -> list[Figure]:
    """Median residuals on the sky. Raises Missing."""
    placed = np.isfinite(evidence.rows["ra"] + evidence.rows["dec"] + evidence.fitted)
    bands = [band for band in evidence.bands if (placed & evidence.of_band(band)).sum() >= FEWEST]
    if not bands:
        raise Missing("measurements have no positions on the sky (columns.ra, columns.dec)")
    caption = (
        "Residuals of the fitted measurements on the sky: medians in hexagons, or single measurements where they are "
        f"few; sinusoidal projection, East to the left. {placed.sum():,} measurements."
    )
    return in_parts("Sky map of residuals", bands, 6, caption, functools.partial(_draw_sky, evidence))


def _draw_sky(evidence: JointEvidence, bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
    rows, chosen = evidence.rows, {band: evidence.of_band(band) for band in bands}
    points = {band: (rows["ra"][k], rows["dec"][k], MMAG * evidence.fitted[k]) for band, k in chosen.items()}
    draw_maps(points, "residual [mmag]", figure)


# --- by star ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class StarScatter:
    """Stars (n_star,) of a band seen often: magnitude, rms of the residuals used, stated errors' rms [mag], error of
    the magnitude in the solution [mag]."""

    magnitude: np.ndarray
    rms: np.ndarray
    stated: np.ndarray
    error: np.ndarray


def star_scatter(evidence: JointEvidence, band: str) -> StarScatter:
    """What the measurements of a star scatter by. Raises Missing where none is seen often."""
    found, rows = evidence.solution, evidence.rows
    k = found.bands.index(band)
    used = evidence.of_band(band) & found.used & np.isfinite(found.residual)
    known, own, n = found.star, rows["star"][used], len(found.star)
    if known.dtype.kind != own.dtype.kind:
        known, own = known.astype(str), own.astype(str)
    order = np.argsort(known, kind="stable")
    place = order[np.searchsorted(known[order], own)]
    number = np.bincount(place, minlength=n)
    square = np.bincount(place, found.residual[used] ** 2, n) / np.maximum(number - 1, 1)
    error = np.hypot(np.asarray(rows["magnitude_error"], float)[used], found.floor[k])
    stated = np.sqrt(np.bincount(place, error**2, n) / np.maximum(number, 1))
    often = (number >= ENOUGH) & np.isfinite(found.magnitude[:, k])
    if not often.any():
        raise Missing(f"no star has {ENOUGH} measurements in a band")
    return StarScatter(found.magnitude[often, k], np.sqrt(square)[often], stated[often], found.star_errors()[often, k])


def star_figures(evidence: JointEvidence) -> list[Figure]:
    """Scatter of stars against magnitude, over the errors stated. Raises Missing."""
    scatters = by_band(evidence.bands, functools.partial(star_scatter, evidence))
    said = ", ".join(f"{label_of(band)} {len(one.rms):,}" for band, one in scatters.items())
    caption = (
        f"Rms of the residuals of stars with {ENOUGH} measurements or more against magnitude (points), errors stated "
        "with the error floor (green), and errors of the stars' magnitudes in the solution (dashed). Numbers of stars: "
        f"{said}."
    )

    def draw(part: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
        for band, axes in zip(part, panels(figure, len(part), 2, 3.3), strict=True):
            one = scatters[band]
            axes.scatter(one.magnitude, MMAG * one.rms, s=3, color=BLUE, alpha=0.4, lw=0, rasterized=True)
            if np.ptp(one.magnitude):
                for values, style, label in (
                    (one.stated, "-", "errors stated"),
                    (one.error, "--", "error of the star"),
                ):
                    line = trend(one.magnitude, MMAG * values)
                    axes.plot(line.x, line.median, color=GREEN, ls=style, lw=1.5, label=label)
            log_scale(axes)
            some = MMAG * one.rms[one.rms > 0]
            low = float(np.nanmin([ends_of(some)[0], MMAG * median(one.error)]))
            axes.set_ylim(0.5 * low, 2 * ends_of(some)[1])
            dress(axes, "star's magnitude [mag]", "rms [mmag]", plain(band))

    return in_parts("Scatter of stars", [*scatters], 6, caption, draw)
