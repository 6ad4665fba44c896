"""What columns and header keywords of detections are called, by the programs and surveys that make them.

SExtractor and SourceXtractor++, DAOPHOT, photutils, LSST's and HSC's pipelines, S-PLUS, J-PLUS, SkyMapper, PS1, ZTF,
LAST, and VizieR's spellings of all these. Patterns match whole names whatever their case; the first that matches wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SEXTRACTOR = r"(?:win|psf|model|peak)?"
PATTERNS: dict[str, tuple[str, ...]] = {
    "x": (
        rf"x{SEXTRACTOR}_image(?:_dbl)?", r"pixel_centroid_x", r"x_?centroid", r"x_fit", r"slot_centroid_x",
        r"base_sdsscentroid_x", r"x", r"x_?(?:pix(?:els?)?|img|psf|pos|ccd|det|chip|cent(?:er|re)|cen)",
        r"(?:ccd|pix|det|chip)_?x", r"x1",
    ),
    "ra": (
        r"alpha(?:win|psf|model)?_?(?:j2000|sky)", r"world_centroid_alpha", r"coord_ra", r"sky_centroid[._]ra", r"ra",
        r"_?raj2000", r"ra_?(?:j2000|deg|psf|fit|mean|obs|win)", r"ra(?:mean|stack|psf)", r"x_?win_world", r"x_world",
        r"ra_?(?:icrs|gaia|1|2)", r"(?:obj|alpha)_?ra|alpha",
    ),
    "star": (
        r"(?:gaia_?)?(?:e?dr[34]_?)?source_?id", r"gaia(?:_?e?dr[34])?_?(?:source_?)?id",
        r"source(?:_?id_?(?:dr3|gaia))?",
    ),
    "own_star": (
        r"(?:coadd_?)?obj(?:ect)?_?id", r"star(?:_?(?:id|name))?", r"(?:name|id)", r"detect(?:ion)?_?id", r"match_?id",
    ),
    "exposure": (
        r"exp(?:osure)?_?(?:id|name|num(?:ber)?)", r"exposure", r"visit(?:_?id)?", r"obs_?id",
        r"(?:image|img|frame)_?(?:id|name)",
        r"frame", r"image", r"file_?name", r"expnum", r"field(?:_?(?:id|name))?|tile(?:_?(?:id|name))?",
    ),
    "detector": (
        r"ccd(?:_?(?:num|id|no|name))?", r"chip(?:_?(?:id|num|no))?", r"detector(?:_?(?:id|name))?", r"det_?id",
        r"rcid",
    ),
    "quadrant": (r"qid", r"quad(?:rant)?(?:_?id)?"),
    "band": (r"band", r"(?:filter|filt)(?:_?(?:name|id|code))?", r"fid", r"passband"),
    "time": (
        r"mjd[_-]?(?:obs|mid)?", r"obs_?mjd", r"(?:exp)?midp(?:oin)?t_?mjd(?:tai)?", r"[hb]?jd", r"date[_-]?obs",
        r"obs_?time", r"time",
    ),
    "night": (r"night(?:_?id)?", r"obs_?night", r"day_?obs"),
    "airmass": (r"air_?mass", r"secz"),
    "flags": (r"(?:source_)?flags?", r"flags?_?(?:image|win|sex|psf)", r"(?:slot|base)_\w*flags", r"sex_?flags?"),
}  # fmt: skip
"""Names of columns by what they are."""

KEYWORDS: dict[str, tuple[str, ...]] = {
    "band": ("FILTER", "BAND", "FILTNAM", "FILTNAME", "FILTER1", "INSFLNAM", "FILTERID"),
    "exposure": ("EXPOSURE", "EXPID", "EXPNUM", "EXPNAME", "VISIT", "VISITID", "OBSID", "OBS_ID", "IMAGEID", "FRAMEID"),
    "detector": ("DETECTOR", "CCDNUM", "CCDID", "CCD_ID", "CCDNAME", "CCDNO", "CHIPID", "CHIP", "DETID", "CCD"),
    "time": ("MJD-MID", "MJDMID", "MJD_MID", "MJD-OBS", "MJD_OBS", "MJD", "OBSMJD", "OBS-MJD", "JD", "DATE-OBS"),
    "airmass": ("AIRMASS", "AIRMASS1", "SECZ"),
    "night": ("NIGHT", "NIGHTID", "DAY_OBS", "OBSNIGHT"),
}  # fmt: skip
"""Keywords of headers by what they are, the more exact ones first."""

KINDS = (
    (r"psf|(?:^|_)fit(?:$|_)|instr|^m?_?inst", "of a fit of the point-spread function, or called instrumental"),
    (r"auto|kron|total", "of the Kron aperture"),
    (r"ap(?:er(?:ture)?)?_?\d*|\d+p\d+|conv|circ", "of an aperture"),
    (r"", "of no stated kind"),
    (r"iso|petro|best|model|cmodel|sersic|mean", "of the isophote, of Petrosian's aperture, or of a model of a galaxy"),
)
"""Kinds of magnitudes of stars, the best for stars first."""
NO_KIND = 3
"""Which of KINDS has magnitudes whose names say nothing."""

MAGNITUDE = r"(?:^|[_.\d])m(?=$|[_.\d\[])|mag(?:nitude)?s?(?=$|[_.\d\[])|^(?:inst)?mag"
NO_MAGNITUDE = (
    r"zero_?p|zpt?$|zp|lim|max|min|(?:^|_)mu_|ext(?:inction)?|ebv|phot_(?:g|bp|rp)_mean|threshold|calib|corr|diff|ref|"
    r"(?:^|_)abs|apparent|stars?$|err|unc|sig(?:ma)?|^[de]_|mjd|image$|moment"
)
MODEL = r"(?:^|[_.]|(?<=[a-z]))(?:mod|synth?(?:etic)?|xpsp|xp|std|standard|predicted|pred|true_?model)(?=$|[_.\d])"
SEX_MODEL = r"(?:mag|flux)(?:err)?_?model"
"""Model magnitudes of SExtractor, which are measured."""
SINGLE_MODEL = (r"model(?:_?mag(?:nitude)?)?", r"(?:mag(?:nitude)?_?)?(?:synth?(?:etic)?|xpsp|xp)(?:_?mag(?:nitude)?)?")
FLUX = (
    r"aper(?:ture)?_sum(?:_\d+)?(?:_bkgsub)?$|(?:^|[_.]|(?<=[a-z]))(?:inst_?)?flux(?:es)?(?=$|[_.\d]|(?<=x)[A-Z])|"
    r"(?<=[a-z])flux$"
)

BAND = (
    r"[ugrizyvUBVRIJHKGYZw]|[ri]2|[ugrizy]p|zs|Ks|[ugrizy](?:SDSS|JAVA|PS1|sdss)|BP|RP|VR|[A-Za-z]\d{3,4}[WMN]?|NB\d+|"
    r"[Ll]um|[Cc]lear"
)
"""What bands are called in names of columns."""
ORDER = "uUBgGVrRiIzZyY"
"""Broad bands from blue to red."""
COLORS = (("g", "i"), ("G", "I"), ("g", "r"), ("G", "R"), ("B", "I"), ("V", "I"), ("B", "V"), ("r", "i"), ("R", "I"))
"""Colors that tell stars apart, the best first: blue against red of the peak, in bands of good signal."""


def first_match(role: str, names: Sequence[str]) -> list[str]:
    """The names that may be of a role, the best first: by the order of patterns, then of columns."""
    out: list[str] = []
    for pattern in PATTERNS[role]:
        out += [name for name in names if name not in out and re.fullmatch(pattern, name, re.IGNORECASE)]
    return out


def same(name: str, names: Iterable[str]) -> str | None:
    """The name as it is spelled among names, whatever its case; None where it is not among them or not clearly so."""
    names = list(names)
    found = [name] if name in names else [known for known in names if known.lower() == name.lower()]
    return found[0] if len(found) == 1 else None


def partner(name: str, pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> str | None:
    """The column that is to another one as y is to x: the first replacement of a piece that is a column."""
    for old, new in pairs:
        for found in re.finditer(old, name, re.IGNORECASE):
            word = new.upper() if found[0].isupper() else new
            other = same(name[: found.start()] + word + name[found.end() :], names)
            if other is not None and other != name:
                return other
    return None


Y_OF_X = ((r"^x", "y"), (r"x$", "y"), (r"(?<=_)x(?=_|$)", "y"), (r"(?<=[a-z])x(?=\d?$)", "y"))
DEC_OF_RA = (
    ("alpha", "delta"), ("ra", "dec"), ("ra", "de"), (r"^x", "y"), (r"RA", "Dec"), (r"Ra", "Dec"), ("alpha", "dec"),
)  # fmt: skip


def error_of(name: str, names: Sequence[str]) -> str | None:
    """The column with the errors of another one, by the ways in which they are called."""
    swaps = (
        (r"magnitude", "magnitude_error"), (r"magnitude", "magnitude_err"), (r"mag", "magerr"), (r"mag", "mag_err"),
        (r"mag", "mag_error"), (r"mag", "magerror"), (r"mag", "emag"), (r"mag", "err_mag"), (r"mag", "sigma"),
        (r"^mag$", "merr"), (r"flux", "fluxerr"), (r"flux", "flux_err"), (r"flux_fit", "flux_err"),
    )  # fmt: skip
    ends = ("_err", "_error", "err", "error", "_e", "_unc", "_uncertainty", "_sigma", "_sig", "sigma", "_std", "_rms")
    starts = ("e_", "err_", "error_", "sigma_", "sig_", "sig", "d_", "e")
    tries = [name + end for end in ends] + [start + name for start in starts]
    found = (same(one, names) for one in tries)
    one = next((one for one in found if one is not None), None) or partner(name, swaps, names)
    if one is None and re.fullmatch("mag(?:nitude)?|flux", name, re.IGNORECASE):
        one = next((alone for word in ("err", "error", "sigma") if (alone := same(word, names)) is not None), None)
    return one


def template(name: str) -> list[tuple[str, str]]:
    """The ways to read a name as that of a band: the name with {band} in its place, and the band."""
    out = []
    for pattern in (
        rf"(?<![A-Za-z0-9])({BAND})(?![A-Za-z0-9])",  # SPLUS_R_err, g_psf
        r"^([ugrizyw])(?=[A-Z][a-z]|PSF|Ap|Kron)",  # gMeanPSFMag
        rf"^({BAND})(?=(?:_?mag|MAG|Mag)s?(?:$|[_A-Z]|err))",  # gmag
        rf"(?<=^mag)({BAND})$",  # magr
        rf"(?<=^e_)({BAND})(?=(?:mag|MAG|Mag)$)",  # e_gmag
    ):
        for found in re.finditer(pattern, name):
            one = f"{name[: found.start(1)]}{{band}}{name[found.end(1) :]}", found[1]
            if one not in out:
                out.append(one)
    return out


def kind_of(name: str) -> int:
    """Which of KINDS a magnitude is of, by its name."""
    for k, (pattern, _) in enumerate(KINDS):
        if pattern and re.search(pattern, name, re.IGNORECASE):
            return k
    return NO_KIND


def is_magnitude(name: str, unit: str | None) -> bool:
    """Whether a column may hold measured magnitudes, by its name or unit."""
    if re.search(NO_MAGNITUDE, name, re.IGNORECASE) or is_model(name):
        return False
    return bool(re.search(MAGNITUDE, name, re.IGNORECASE)) or (unit or "").strip().lower() in ("mag", "magnitude")


def is_model(name: str) -> bool:
    """Whether a column may hold magnitudes of standards."""
    if re.fullmatch(SEX_MODEL, name, re.IGNORECASE) or re.search(r"err|^e_", name, re.IGNORECASE):
        return False
    return bool(re.search(MODEL, name, re.IGNORECASE)) or any(
        re.fullmatch(one, name, re.IGNORECASE) for one in SINGLE_MODEL
    )


def is_flux(name: str) -> bool:
    """Whether a column may hold measured fluxes."""
    odd = r"err|^e_|radius|max|min|background|sky|frac|ratio|_mean_flux|unc|flag|zero"
    return bool(re.search(FLUX, name, re.IGNORECASE)) and not re.search(odd, name, re.IGNORECASE)
