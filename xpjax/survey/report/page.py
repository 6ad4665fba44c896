"""A survey's report: one HTML page of numbers and figures, figures inside it as PNG.

A figure that cannot be made is left out, and the page says what it would have needed.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.periods import FALSE_ALARM
from xpjax.core.records import Catalogue
from xpjax.io.atomic import check_output, write_bytes
from xpjax.survey import FrameFlag, RowFlag
from xpjax.survey.report import figures
from xpjax.survey.report.drawing import MMAG, label_of, rounded_text
from xpjax.survey.report.evidence import Evidence, band_numbers
from xpjax.survey.report.frames import DifferenceNumbers, difference_numbers
from xpjax.survey.report.gather import gather_evidence
from xpjax.survey.report.stars import PHASES
from xpjax.survey.report.statistics import STRONG, Missing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "report.html"


@dataclasses.dataclass(frozen=True)
class Section:
    """A figure of the page: title, caption, the figure or why there is none, and findings in words."""

    title: str
    text: str
    figure: Figure | None = None
    missing: str = ""
    found: tuple[str, ...] = ()


def sections(evidence: Evidence) -> list[Section]:
    """All figures, in their order."""
    makers: list[tuple[str, str, Callable[[Evidence], Figure | tuple[Figure, tuple[str, ...]]]]] = [
        ("Residuals", "Residuals of the standards (model - color term - calibrated magnitude, mmag): density, medians "
         "in bins of equal numbers with their errors, and 1.48 MAD as a band.", figures.draw_residuals),
        ("Flats before and after", "Mean residuals of the standards over the detector [mmag], before any flat and "
         "after each. Titles give the scatter of the means beyond their noise.", figures.draw_flats),
        ("Pulls", "Residuals in units of their total error, of all standards and in cross-validation, compared with a "
         "unit Gaussian.", figures.draw_pulls),
        ("Zero-points of the nights", f"Zero-points relative to {_nights_text(evidence)}.", figures.draw_nights),
        ("Histograms of zero-point differences", "Zero-point differences of exposures or tiles, with a Gaussian fitted "
         "to their core.", figures.draw_histograms),
        ("Sky maps of zero-point differences", "Zero-point differences of exposures or tiles on the sky.",
         figures.draw_maps),
        ("Correlation of bands", "Correlation coefficients of the zero-point differences in two bands, and slopes of "
         f"pairs with |r| > {STRONG} and a probability of chance below {FALSE_ALARM:g}.", figures.draw_correlation),
        ("Dependence on reddening and R_V", "Zero-point differences against E(B-V) and R_V, with linear fits.",
         figures.draw_reddening),
        ("XPSP - SCR", "Synthetic magnitudes from XP spectra less those of stellar color regression, against color and "
         "G, before and after the correction of the spectra.", figures.draw_xpsp),
        ("Repeatability", "Standard deviation of stars with five measurements or more against magnitude, compared with "
         "photon, sky, read-out and scintillation noise.", figures.draw_repeatability),
        ("Light curves", "Light curves of the most variable stars, and folded with their periods, with medians in "
         f"{PHASES} bins of phase. Periods are those of the highest peak of the Lomb-Scargle periodogram, where its "
         f"false-alarm probability in the range searched is below {FALSE_ALARM:g} (Baluev 2008); errors follow from "
         "the curvature of the peak and the residuals of the sine. Aliases that fit equally well at that level are "
         "listed. Times that are not barycentric change a period by up to 1e-4 of itself. The period of an eclipsing "
         "binary is twice that of its sine.", figures.draw_light_curves),
        ("Cross-validation", "Residuals of standards in cross-validation against magnitude.",
         figures.draw_cross_validation),
        ("Validation exposures", "Scatter (1.48 MAD) of the residuals in each exposure that took no part in the "
         "calibration, compared with those that did.", figures.draw_validation),
    ]  # fmt: skip
    out = []
    for title, text, maker in makers:
        try:
            made = maker(evidence)
            figure, found = made if isinstance(made, tuple) else (made, ())
            out.append(Section(title, text, figure, found=found))
        except Missing as missing:
            out.append(Section(title, text, missing=str(missing)))
    return out


# --- the page ---------------------------------------------------------------------------------------------------------

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.6em } h2 { font-size: 1.2em; margin-top: 2em; border-top: 1px solid #ddd; padding-top: 0.7em }
table { border-collapse: collapse; font-size: 0.86em; margin: 0.8em 0 }
th, td { padding: 0.25em 0.7em; text-align: left } th { border-bottom: 2px solid #1f3a5f }
td { border-bottom: 1px solid #eee } td.n { text-align: right }
img { max-width: 100%; height: auto } .missing { color: #8a4b00 } .note { color: #555; font-size: 0.9em }
"""


def report_page(title: str, evidence: Evidence, made: Sequence[Section], account: Sequence[str] = ()) -> bytes:
    """The report as one HTML file: numbers on top, then every section."""
    numbers = _numbers_table(band_numbers(evidence), _nights_text(evidence))
    parts = [f"<h1>{html.escape(title)}</h1>", _about(evidence), numbers]
    for name in evidence.differences:
        parts.append(_compared(name, difference_numbers(evidence, name)))
    parts.append(_flag_table("Flags of exposures", "exposures", FrameFlag.counts(evidence.solution.fits.status)))
    parts.append(_flag_table("Flags of measurements", "measurements", RowFlag.counts(evidence.rows["status"])))
    if account:
        parts.append("<h2>Selections</h2>" + _table(("",), [(text,) for text in account]))
    for section in made:
        parts.append(f"<h2>{html.escape(section.title)}</h2><p class='note'>{html.escape(section.text)}</p>")
        if section.figure is None:
            parts.append(f"<p class='missing'>Not made: {html.escape(section.missing)}.</p>")
        else:
            drawn = io.BytesIO()
            section.figure.savefig(drawn, format="png")
            coded = base64.b64encode(drawn.getvalue()).decode()
            parts.append(f"<img alt='{html.escape(section.title)}' src='data:image/png;base64,{coded}'>")
        if section.found:
            parts.append("<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in section.found) + "</ul>")
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n".encode()


def _about(evidence: Evidence) -> str:
    record: Mapping[str, Any] = evidence.solution.record
    said = [f"{name}: {record[name]}" for name in ("version", "date", "command") if name in record]
    if "inputs" in record:
        inputs = list(record["inputs"])
        more = f" and {len(inputs) - 10} more" * (len(inputs) > 10)
        said.append("inputs: " + ", ".join(map(str, inputs[:10])) + more)
    frames = evidence.solution.frames
    bands = f"{len(evidence.bands)} band{'s' * (len(evidence.bands) != 1)}"
    told = f"{len(evidence.rows['star']):,} measurements on {len(frames):,} frames in {bands}"
    return f"<p>{told}.</p><p class='note'>{html.escape('; '.join(said))}</p>"


def _nights_text(evidence: Evidence) -> str:
    """What zero-points are counted from, of what is known of nights and airmasses."""
    frames = evidence.solution.frames
    which = "each night" if (frames.night != "").any() else "all frames (nights are not known)"
    if np.isfinite(frames.airmass).all():
        return f"the line with airmass of {which}"
    return f"the median of {which}; airmasses are not known"


def _numbers_table(numbers: Catalogue, nights: str) -> str:
    header = (
        "band", "frames", "refused", "standards", "outliers", "zero-points about nights", "formal error",
        "systematic error", "error floor", "residuals, 1.48 MAD", "std", "pull", "cross-validation, 1.48 MAD", "std",
        "pull",
    )  # fmt: skip
    c = numbers.columns
    rows = []
    for k, band in enumerate(c["band"].tolist()):
        cells = [label_of(band), *(f"{c[name][k]:,}" for name in ("n_frame", "n_refused", "n_standard", "n_outlier"))]
        if c["n_standard"][k]:
            cells[-1] += f" ({100 * c['n_outlier'][k] / c['n_standard'][k]:.1f} %)"
        for name in list(c)[len(cells) :]:
            value = c[name][k] * (MMAG if numbers.units.get(name) else 1)
            unknown = name == "zero_point_systematic" and not np.isfinite(value)
            cells.append("not stated" if unknown else rounded_text(value))
        rows.append(cells)
    note = (
        f"<p class='note'>Magnitudes in mmag, outliers included. Zero-points about nights: 1.48 MAD about {nights}. "
        "The systematic error is common to all frames; the error floor is the scatter of standards beyond their "
        "errors; a pull is 1.48 MAD of residual / error."
    )
    if np.isnan(c["zero_point_systematic"]).any():
        note += (
            " Where the systematic error is not stated, the standards came without errors of models "
            "(columns.model_error, or systematic_error for all of them), and pulls do not include them."
        )
    note += "</p>"
    return "<h2>Numbers</h2>" + _table(header, rows) + note


def _compared(name: str, numbers: Sequence[DifferenceNumbers]) -> str:
    header = ("band", "in both", "median", "1.48 MAD", "std", "formal error", "std / formal", "pull")
    rows = [
        (label_of(n.band), f"{n.number:,}",
         *(rounded_text(MMAG * v, 3) for v in (n.median, n.scatter, n.rms, n.formal)),
         rounded_text(n.rms / n.formal if n.formal > 0 else np.nan), rounded_text(n.pull))
        for n in numbers if n.number
    ]  # fmt: skip
    note = (
        "<p class='note'>Zero-points less those of the comparison, in mmag; std, pull and ratio about the median. The "
        "pull is the standard deviation of difference / formal error, with the errors of this calibration alone.</p>"
    )
    shown = _table(header, rows) + note if rows else "<p class='missing'>No exposure or tile is in both.</p>"
    return f"<h2>Comparison with {html.escape(name)}</h2>" + shown


def _flag_table(title: str, what: str, counts: Mapping[Any, int]) -> str:
    if not counts:
        return f"<h2>{title}</h2><p>None.</p>"
    rows = [(str(bit.name), f"{n:,}", bit.meaning) for bit, n in counts.items()]
    return f"<h2>{title}</h2>" + _table(("flag", what, "meaning"), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cell(text: str) -> str:
        number = text.replace(",", "").replace(".", "").replace("-", "").isdigit()
        return f"<td{' class=n' if number else ''}>{html.escape(text)}</td>"

    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(map(cell, row)) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


# --- the file ---------------------------------------------------------------------------------------------------------


def write_report(
    solution: Any, output: str | Path | None = None, *, overwrite: bool = False, **evidence: Any
) -> list[Section]:
    """Write the report of a calibration, numbers and figures, as one HTML page.

    Parameters
    ----------
    solution : Evidence, or as for `gather_evidence`
        Evidence that was gathered, or the directory of a calibration, or a calibration in memory.
    output : str or Path, optional
        HTML file, by default report.html in the directory. It is written whole or not at all.
    overwrite : bool
        Whether a file that exists is replaced.
    **evidence
        Arguments of `gather_evidence`, such as `catalogues`, `compare` and `camera`.

    Returns
    -------
    list of Section
        The figures in their order, with `title`, `text`, `figure` (matplotlib, or None), `missing` (what a figure that
        could not be made would have needed) and `found`.

    Raises
    ------
    XpjaxError, OSError
        If the output cannot be written, or the evidence not gathered.

    Examples
    --------
    >>> from xpjax.survey import SurveySetup, SimulatedSurvey, exposures, report
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> settings = exposures.CalibrationSettings(exposures.ExposureModel(position_order=1, color_order=0))
    >>> evidence = report.gather_evidence(exposures.calibrate(observations, settings))
    >>> figures = report.write_report(evidence, "report.html")
    >>> [section.title for section in figures if section.figure is not None][:2]
    ['Residuals', 'Flats before and after']
    """
    folder = Path(solution) if isinstance(solution, str | Path) else None
    if output is None and folder is None:
        raise XpjaxError("the report of a calibration in memory needs the name of a file: give output=")
    target = Path(output) if output is not None else Path(solution) / PAGE
    if target.suffix.lower() not in (".html", ".htm"):
        raise XpjaxError(f"{target.name}: the suffix of a report is .html")
    check_output(target, overwrite=overwrite)
    known = solution if isinstance(solution, Evidence) else gather_evidence(solution, **evidence)
    made, name = sections(known), target.stem if folder is None else folder.resolve().name
    account = json.loads(known.solution.record.get("account", "[]"))
    write_bytes(target, report_page(f"Survey calibration: {name}", known, made, account))
    return made
