"""The sections of `survey.toml` about tables, standards and the model of an exposure; one file serves all commands.

`survey calibrate`, `solve`, `scr`, `simulate` and `report` read their own sections of the same file. A command checks
the names of all sections, and leaves the contents of those of other commands alone.

[columns]
star = "source_id"
x = "X"
y = "Y"
magnitude = "SPLUS_{band}"
magnitude_error = "SPLUS_{band}_err"
model = "SPLUS_{band}_mod"
color = ["SPLUS_G_mod", "SPLUS_I_mod"]      # a difference, or one column
bands = ["R", "I"]                           # fills in {band}; or [[band]] tables; or neither, for one band
airmass = { header = "AIRMASS" }             # or a column, or a number
detector = ["TELESCOPE", "CCD"]              # one column, or several that name it together; likewise exposure, night
[model]
position_order = 2
color_order = 2
numerical_flat = true
[selection]
cuts = ["mini_sitian", "ruwe"]
limits = { ruwe = 1.3 }
bands = ["R", "I"]                           # which are calibrated; others are left out
[standards]
spectra = "xp.parquet"                       # XP coefficients: a file, several, xp/*.parquet, or a store: see `spectra`
[passband]
chain = "telescope.toml"                     # passbands at each exposure's own airmass: see `airmass`
airmass = 1.2                                # of the reference; by default the chain's own
correction = "standard"                      # linear correction of the spectra: the default; "none", or a file

Instead of spectra, `fetch = true` takes them from the Gaia archive, and `file` is a table that has models and colors.
Instead of a chain, `files` are curves of bands, and `system` is a published system or shipped passbands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from xpjax.core.errors import XpjaxError
from xpjax.io.config import Section, entry, section_of
from xpjax.survey import CUTS, SurveyEffects, SurveySetup
from xpjax.survey.exposures import CalibrationSettings, ExposureModel

Column = str | int | float | tuple[str, ...] | Mapping[str, str] | None
"""One column, a number for all rows, several columns, { header = "KEYWORD" }, or { file = "PATTERN" } for names."""

IN_MEMORY = "in memory"
"""What the record of a solution says of spectra and tables that were no files."""
SECTIONS = {
    "columns": False, "band": True, "model": False, "selection": False, "standards": False, "gaia": False,
    "passband": False, "joint": False, "term": True, "constraint": True, "scr": False, "regression": False,
    "camera": False, "report": False, "simulate": False,
}  # fmt: skip
"""All sections of a survey's file, of all commands; whether each may come several times, as [[name]]."""


def detector_size(size: Any) -> tuple[float, ...] | None:
    """x from and to, y from and to [pixels], of what a file says. Raises XpjaxError for other than 2 or 4 numbers."""
    if size is None:
        return None
    if not isinstance(size, list | tuple) or len(size) not in (2, 4):
        raise XpjaxError("size is [nx, ny] or [x_from, x_to, y_from, y_to] in pixels")
    return tuple(map(float, size if len(size) == 4 else (0, size[0], 0, size[1])))


SIZE = (
    Annotated[tuple[float, ...] | None, AfterValidator(detector_size)],
    entry(None, "Detector, as [nx, ny] or [x_from, x_to, y_from, y_to]; by default what the rows span", "pixel"),
)
"""The entry `size` of sections, for `section_of`."""


class Names(Section):
    """Columns of the survey's tables, and of a table of stars for `survey scr`."""

    star: Column = entry(None, "Identifier of the star")
    exposure: Column = entry(None, "Exposure; by default a file is one exposure")
    band: Column = entry(None, "Band, in tables with the measurements of several bands in one column")
    detector: Column = entry(None, "Detector; by default a table of a file is one detector")
    amplifier: Column = entry(None, "Amplifier of the detector")
    night: Column = entry(None, "Night; by default found from the times")
    time: Column = entry(None, "Time of the exposure", "d")
    airmass: Column = entry(None, "Airmass of the exposure")
    x: Column = entry(None, "Position along x", "pixel")
    y: Column = entry(None, "Position along y", "pixel")
    ra: Column = entry(None, "Right ascension", "deg")
    dec: Column = entry(None, "Declination", "deg")
    magnitude: Column = entry(None, "Instrumental magnitude", "mag")
    magnitude_error: Column = entry(None, "Error of the instrumental magnitude", "mag")
    flux: Column = entry(None, "Flux in place of magnitude, in any unit: its magnitude is -2.5 log10(flux)")
    flux_error: Column = entry(None, "Error of the flux, in the same unit")
    apertures: Column = entry(
        None, "Aperture magnitudes instead of magnitude: several columns, or one of vectors", "mag"
    )
    aperture_errors: Column = entry(None, "Errors of the aperture magnitudes", "mag")
    model: Column = entry(None, "Magnitude of the star in the passband of the survey, from its XP spectrum", "mag")
    model_error: Column = entry(None, "Error of the model magnitude", "mag")
    color: Column = entry(None, "Color of the star; two columns are a difference", "mag")
    flags: Column = entry(None, "Flags of the measurement, SExtractor's for example")
    ruwe: Column = entry(None, "Gaia's renormalized unit weight error")
    phot_g_mean_mag: Column = entry(None, "Gaia's G", "mag")
    bp_rp: Column = entry(None, "Gaia's BP - RP", "mag")
    phot_bp_rp_excess_factor: Column = entry(None, "Gaia's flux excess factor")
    phot_variable_flag: Column = entry(None, "Gaia's flag of variable stars")
    teff: Column = entry(None, "Effective temperature", "K")
    logg: Column = entry(None, "Surface gravity", "dex")
    feh: Column = entry(None, "Metallicity", "dex")
    snrg: Column = entry(None, "Signal-to-noise ratio of the spectrum in g")
    tile: Column = entry(None, "Tile of the survey (scr)")
    reddening: Column = entry(None, "Reddening E(BP - RP) (scr)", "mag")
    teff_error: Column = entry(None, "Error of teff (scr)", "K")
    feh_error: Column = entry(None, "Error of feh (scr)", "dex")
    reddening_error: Column = entry(None, "Error of reddening (scr)", "mag")
    g: Column = entry(None, "Gaia's G (scr)", "mag")
    bp: Column = entry(None, "Gaia's BP (scr)", "mag")
    rp: Column = entry(None, "Gaia's RP (scr)", "mag")
    bp_error: Column = entry(None, "Error of Gaia's BP (scr)", "mag")
    rp_error: Column = entry(None, "Error of Gaia's RP (scr)", "mag")


class Columns(Names):
    """The columns of the survey's tables, and of a table of stars for `survey scr`.

    A name is a column of the survey's table; `model`, `model_error` and `color`, and columns of cuts, may be columns of
    the standards. A name that both tables have says whose it is, as in `standards.MAG` or `survey.MAG`.
    """

    bands: tuple[str, ...] | None = entry(None, "Names of the bands, which replace {band} in the names of columns")


class Band(Names):
    """A band with columns of its own, beside those of [columns]."""

    name: str = entry(..., "Name of the band")
    gaia: Literal["BP", "RP"] | None = entry(None, "Gaia magnitude that the regression starts from (scr)")
    order: int | None = entry(None, "Order of the regression in this band (scr)")


CUT_COLUMNS = tuple(
    sorted({need for cut in CUTS.values() for need in cut.needs} - {"magnitude", "magnitude_error", "color"})
)
OF_SCR = ("tile", "reddening", "teff_error", "feh_error", "reddening_error", "g", "bp", "rp", "bp_error", "rp_error")
"""Columns that a table of stars for `survey scr` has, and tables of detections have not."""

Model = section_of("Model", ExposureModel, CalibrationSettings, without=("model",), size=SIZE)


class Selection(Section):
    """The bands that are calibrated, and the cuts that keep stars from being standards."""

    bands: tuple[str, ...] = entry((), "Bands that are calibrated; rows of others are left out. By default all")
    cuts: tuple[str, ...] = entry((), "Names of cuts or presets: `xpjax.survey.select`")
    limits: Mapping[str, Any] = entry({}, "Limits that replace the defaults of the cuts, by name")


class StandardStars(Section):
    """Standards apart from the tables of the survey: XP spectra, or a table of models and colors.

    With spectra, model magnitudes, their errors and systematic errors, BP - RP and G are computed, the latter two where
    no column has them; columns beside the coefficients serve cuts. A table beside spectra has positions and columns of
    stars instead, joined to the spectra by identifier.
    """

    file: Any = entry(None, "File with the standards: models and colors; beside spectra columns of Gaia")
    spectra: Any = entry(
        None, "XP coefficients: a file, several files, a folder of them, a pattern such as xp/*.parquet, or a store"
    )
    fetch: bool | str = entry(
        False, "Take spectra from the Gaia archive: true keeps them beside the configuration, a name in that folder"
    )
    match: Literal["source_id", "position"] | None = entry(
        None,
        "Match detections by identifier or by position; by default by identifier, but with spectra by position unless "
        "columns.star holds Gaia's source_id",
    )
    id: str = entry("source_id", "Column with the identifiers of the standards")
    radius: float = entry(1.0, "Largest separation of a match by position", "arcsec")
    ra: str = entry("ra", "Column with the right ascensions of the standards", "deg")
    dec: str = entry("dec", "Column with the declinations of the standards", "deg")
    pm_ra: str | None = entry(
        None, "Column with the proper motions in right ascension, with cos(dec); with spectra pmra", "mas/yr"
    )
    pm_dec: str | None = entry(None, "Column with the proper motions in declination; with spectra pmdec", "mas/yr")
    epoch: float | str | None = entry(
        None,
        'Epoch to which proper motions carry the standards; "time" is that of each exposure, and the default with '
        "spectra that have proper motions",
        "yr",
    )
    years: float | None = entry(None, "The same as a time since the epoch of the standards", "yr")

    @property
    def has_spectra(self) -> bool:
        """Whether the standards are XP spectra."""
        return self.spectra is not None or bool(self.fetch)


class GaiaTerms(Section):
    """Corrections of Gaia's magnitudes."""

    corrections: Any = entry(..., "Table with nodes G and observed less true magnitudes d_G, d_BP, d_RP", "mag")
    G: str = entry("phot_g_mean_mag", "Column with Gaia's G", "mag")
    BP: str = entry("phot_bp_mean_mag", "Column with Gaia's BP", "mag")
    RP: str = entry("phot_rp_mean_mag", "Column with Gaia's RP", "mag")


class SurveyPassband(Section):
    """What the survey sees: its passbands, through which the magnitudes of XP spectra are computed.

    One of chain, files and system. A chain with an atmosphere gives passbands at the airmass of each exposure.
    """

    chain: str | None = entry(None, "File with the transmission chain of the telescope, or the name of a shipped one")
    files: Any = entry(None, 'Curves: files by band, as in { g = "g.dat" }, or one file or folder with all bands')
    system: str | None = entry(None, "Published photometric system, or shipped passbands")
    bands: Mapping[str, str] = entry(
        {}, "Names in chain, files or system of those bands that the survey calls otherwise"
    )
    detector: Literal["photon", "energy"] | None = entry(None, "What the detector counts, in place of what files say")
    magnitude: Literal["AB", "ST"] | None = entry(None, "Magnitude system, in place of what files say")
    unit: str | None = entry(None, "Unit of wavelengths in files that state none")
    sources: Any = entry(None, "XP spectra of the stars, by source_id; by default those of [standards]")
    airmass: float | None = entry(None, "Reference airmass; by default that of the chain")
    models: bool | None = entry(None, "Take model magnitudes from the spectra; by default where no column has them")
    correction: str = entry("standard", 'Linear correction of the XP spectra: "standard", "none" or a file')
    domain: bool = entry(True, "Whether only stars for which the correction holds are standards")


Simulate = section_of(
    "Simulate", SurveySetup, SurveyEffects, without=("effects",),
    camera=(Literal["cmos", "ccd"], entry("cmos", "Camera, for the noise")),
)  # fmt: skip

OWN: dict[str, type[Section]] = {
    "columns": Columns, "band": Band, "model": Model, "selection": Selection, "standards": StandardStars,
    "gaia": GaiaTerms, "passband": SurveyPassband, "simulate": Simulate,
}  # fmt: skip
"""The sections of `survey calibrate` and `simulate`; for the page of all entries: `xpjax.io.config.reference`."""
