"""Libraries of model spectra on disk, read file by file: wavelengths in nm and in vacuum, flux per wavelength.

    ck04      Castelli & Kurucz (2004) as STScI distributes it: ckp00/ckp00_5750.fits, a column for each log g
    nextgen   one .npz file: teff, logg, mh (n,), wave_nm (m,), flux (n, m) in bins, optionally nlte (n,)
    ferre     FERRE's text grids: namelist headers &SYNTH ... /, then a line for each node, the last label fastest
    files     a spectrum a file, FITS or text, with its labels in the file name or in FITS keywords

XP wavelengths are in vacuum, as are those of the standards behind their calibration (Montegriffo et al. 2023, A&A 674
A3), so wavelengths in air are converted, with the refractive index of Ciddor (1996, Applied Optics 35, 1566).
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import itertools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from xpjax.constants import SIGMA_PER_FWHM
from xpjax.errors import XpjaxError
from xpjax.io.catalogue import expanded
from xpjax.io.passband_files import to_nm

MEDIA = ("vacuum", "air")
FLUXES = ("wavelength", "frequency")
"""What a flux is per."""
Limits = Mapping[str, Sequence[float | None]]
"""By label: low and high, None where open, and optionally a step from low; models off the steps are left out."""
NAMES = {"logt": "logteff", "fe/h": "mh", "m/h": "mh", "metals": "mh", "feh": "mh", "z": "mh", "log_g": "logg"}
"""Names of labels in libraries that are called otherwise here."""
CHUNK = 256
"""Lines of a FERRE grid that are held at a time."""
SAY_MEDIUM = 'pass medium="vacuum" or medium="air" (--medium)'


@dataclasses.dataclass(frozen=True)
class ModelSpectra:
    """Some spectra on one wavelength grid: wavelength (m,) ascending [nm, vacuum], flux (n, m), labels (n, n_label).

    variance (m,) [nm2]: of the profile that the samples are smoothed with already, by bins or by the library's own
    resolution; zero where not known. file: where they come from, for messages.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    labels: np.ndarray
    variance: np.ndarray
    file: Path


class Library:
    """A library of model spectra: names of its labels, and by iteration its `ModelSpectra`, read as they are asked for.

    origin says what it is; files: those that it is read from; `checksum()` of these files.
    """

    def __init__(
        self, names: Sequence[str], files: Sequence[Path], origin: str, read: Callable[[], Iterator[ModelSpectra]]
    ) -> None:
        self.names, self.files, self.origin, self._read = tuple(names), tuple(files), origin, read

    def __iter__(self) -> Iterator[ModelSpectra]:
        return self._read()

    def checksum(self) -> str:
        """SHA-256 of the contents of all files, in order."""
        digest = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
        return digest.hexdigest()


def read_library(format: str, path: str | Path, *, limits: Limits | None = None, **options: Any) -> Library:
    """A library by its format, one of `FORMATS`, and its folder or file.

    limits: by label (low, high) or (low, high, step); other models are left out. Options by format: nextgen nlte;
    ferre medium, per; files pattern, keywords, wavelengths, unit, medium, per, own_resolution (see `read_ck04`,
    `read_nextgen`, `read_ferre`, `read_files`). Raises FileNotFoundError, and ValueError for files that are none of
    the format, naming file, place and remedy; also while it is iterated over.
    """
    if format not in FORMATS:
        raise XpjaxError(f"unknown format {format!r} of a library; choose one of {', '.join(FORMATS)}")
    path = expanded(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    try:
        library = FORMATS[format](path, limits or {}, **options)
    except TypeError as exc:
        if "unexpected keyword" not in str(exc) and "required keyword" not in str(exc):
            raise
        raise XpjaxError(f"format {format}: {str(exc).partition(' ')[2]}; see its options") from exc
    unknown = [name for name in limits or {} if name not in library.names]
    if unknown:
        raise XpjaxError(f"{path}: no label {', '.join(unknown)} to limit; the library has {', '.join(library.names)}")
    return library


def within(names: Sequence[str], labels: np.ndarray, limits: Limits) -> np.ndarray:
    """Which models (n,) have labels (n, n_label) within the limits and on their steps."""
    kept = np.ones(len(labels), bool)
    for k, name in enumerate(names):
        low, high, step = (*limits.get(name, ()), None, None, None)[:3]
        # Labels in files are rounded: float32, or a few decimals.
        x, margin = labels[:, k], 1e-6 * np.maximum(np.abs(labels[:, k]), 1)
        if low is not None:
            kept &= x >= low - margin
        if high is not None:
            kept &= x <= high + margin
        if step is not None:
            if low is None or not step > 0:
                raise XpjaxError(f"limits of {name}: a step needs a lower limit to start from, and is above zero")
            kept &= np.abs((x - low) / step - np.rint((x - low) / step)) * step <= margin
    return kept


def to_vacuum(wavelength: np.ndarray) -> np.ndarray:
    """Vacuum wavelengths (n,) [nm] of wavelengths (n,) in standard air, above 200 nm (Ciddor 1996, eq. 1)."""
    vacuum = np.asarray(wavelength, float)
    for _ in range(3):  # the index is a function of the wavelength in vacuum, which changes it by 1e-8
        s = 1e6 / vacuum**2
        index = 1 + 0.05792105 / (238.0185 - s) + 0.00167917 / (57.362 - s)
        vacuum = np.where(wavelength > 200, wavelength * index, wavelength)
    return vacuum


def _prepared(
    file: Path,
    wavelength: np.ndarray,
    flux: np.ndarray,
    labels: np.ndarray,
    variance: np.ndarray | None = None,
    medium: str = "vacuum",
    per: str = "wavelength",
) -> ModelSpectra:
    """Spectra in vacuum, per wavelength, ascending. Raises ValueError for what is no spectrum."""
    for value, known, what in ((medium, MEDIA, "medium"), (per, FLUXES, "per")):
        if value not in known:
            raise XpjaxError(f"{what} {value!r} is not one of {known}")
    wavelength, flux = np.asarray(wavelength, float), np.asarray(flux, float)
    variance = np.zeros(len(wavelength)) if variance is None else variance
    if flux.shape[-1] != len(wavelength) or len(wavelength) < 4:
        raise XpjaxError(f"{file}: {len(wavelength)} wavelengths and {flux.shape[-1]} fluxes; expected as many, over 3")
    if wavelength[0] > wavelength[-1]:
        wavelength, flux, variance = wavelength[::-1], flux[..., ::-1], variance[::-1]
    bad = np.flatnonzero(~(np.diff(wavelength) > 0) | ~(wavelength[:-1] > 0))
    if len(bad):
        k = int(bad[0])
        raise XpjaxError(
            f"{file}: the wavelengths do not ascend: sample {k + 1} is {wavelength[k]:g}, sample {k + 2} "
            f"{wavelength[k + 1]:g}; sort them and drop repeated ones"
        )
    row, sample = np.nonzero(~np.isfinite(flux))
    if len(row):
        where = ", ".join(f"{x:g}" for x in labels[row[0]])
        raise XpjaxError(
            f"{file}: the flux of the model ({where}) is {flux[row[0], sample[0]]} at sample {sample[0] + 1}; mend the "
            "file, or take it out of the folder"
        )
    if medium == "air":
        wavelength = to_vacuum(wavelength)
    if per == "frequency":
        flux = flux / wavelength**2
    return ModelSpectra(wavelength, flux, np.asarray(labels, float), variance, file)


def _bins(wavelength: np.ndarray) -> np.ndarray:
    """Variance [nm2] of boxes that reach halfway to the neighbours."""
    return np.gradient(wavelength) ** 2 / 12


# --- Castelli & Kurucz 2004 -------------------------------------------------------------------------------------------


def read_ck04(path: Path, limits: Limits) -> Library:
    """Castelli & Kurucz (2004), FITS tables with a column gNN for each log g = NN / 10, zeros where there is no model.

    path: the folder with ckm25 .. ckp05, or one of these. The samples are means over the intervals of the opacity
    distribution functions, 2 nm wide in the visible. Their wavelengths are vacuum ones to within a tenth of an
    interval: the Balmer lines of hot models lie within 0.1 nm of their places in vacuum.
    """
    files = sorted(path.rglob("ck[mp][0-9][0-9]_*.fits*")) if path.is_dir() else [path]
    if not files:
        raise XpjaxError(f"{path} holds no models: no file such as ckp00_5750.fits or ckp00_5750.fits.gz")
    names = ("teff", "logg", "mh")

    def read() -> Iterator[ModelSpectra]:
        for file in files:
            known = re.match(r"ck([mp])(\d\d)_(\d+)\.fits", file.name)
            if known:
                mh = (-0.1 if known[1] == "m" else 0.1) * int(known[2])
                early = {name: limits[name] for name in ("teff", "mh") if name in limits}
                if not within(("teff", "mh"), np.array([[float(known[3]), mh]]), early)[0]:
                    continue
            yield from _ck04_file(file, limits)

    return Library(names, files, f"Castelli & Kurucz 2004, {path.name}", read)


def _ck04_file(file: Path, limits: Limits) -> Iterator[ModelSpectra]:
    primary, table = _open_fits(file)
    columns = [name for name in (table.dtype.names or ()) if re.fullmatch(r"g\d\d", name)]
    if "TEFF" not in primary or "LOG_Z" not in primary or "WAVELENGTH" not in (table.dtype.names or ()) or not columns:
        raise XpjaxError(
            f"{file}: no Castelli & Kurucz table: expected keywords TEFF and LOG_Z, columns WAVELENGTH and g00..g50; "
            "take it out of the folder"
        )
    labels = np.array([[primary["TEFF"], int(name[1:]) / 10, primary["LOG_Z"]] for name in columns], float)
    flux = np.stack([table[name] for name in columns])
    there = within(("teff", "logg", "mh"), labels, limits) & (flux != 0).any(axis=1)
    wavelength = to_nm(np.asarray(table["WAVELENGTH"], float), "Angstrom", file)
    if there.any():
        yield _prepared(file, wavelength, flux[there], labels[there], _bins(wavelength))


def _open_fits(file: Path) -> tuple[Any, Any]:
    """Primary header with the first extension's keywords, and the data of the first HDU that has some."""
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the error says better
            with fits.open(file, memmap=False) as hdus:
                header = hdus[0].header.copy()
                data = next((hdu for hdu in hdus if hdu.data is not None), None)
                if data is None:
                    raise XpjaxError("no data")
                header.extend(data.header.cards, strip=False, unique=True)
                return header, np.asarray(data.data)
    except Exception as exc:  # astropy raises many kinds
        what = f"{type(exc).__name__}: {exc}".partition("\n")[0]
        raise XpjaxError(f"{file}: cannot be read as FITS ({what}); fetch it again") from exc


# --- NextGen ----------------------------------------------------------------------------------------------------------


def read_nextgen(path: Path, limits: Limits, *, nlte: bool = False) -> Library:
    """NextGen (Hauschildt et al. 1999) as one .npz file of means over bins; the Balmer lines lie at vacuum wavelengths.

    nlte: take the non-LTE models, of hot and metal-poor stars, instead of the LTE ones. Raises ValueError.
    """
    wanted = ("teff", "logg", "mh", "wave_nm", "flux")
    try:
        with np.load(path) as file:
            data = {name: file[name] for name in (*wanted, *(["nlte"] if "nlte" in file else []))}
    except (OSError, ValueError, KeyError) as exc:
        raise XpjaxError(f"{path}: expected an .npz file with {', '.join(wanted)} ({exc})") from exc
    names = ("teff", "logg", "mh")
    labels = np.stack([np.asarray(data[name], float) for name in names], axis=1)
    if data["flux"].shape != (len(labels), len(data["wave_nm"])):
        raise XpjaxError(f"{path}: flux has shape {data['flux'].shape}, expected {len(labels), len(data['wave_nm'])}")

    def read() -> Iterator[ModelSpectra]:
        kind = np.asarray(data.get("nlte", np.zeros(len(labels))), bool)
        there = within(names, np.round(labels, 6), limits) & (kind == nlte)
        if there.any():
            wavelength = np.asarray(data["wave_nm"], float)
            yield _prepared(path, wavelength, data["flux"][there], np.round(labels[there], 6), _bins(wavelength))

    return Library(names, [path], f"NextGen {'non-LTE' if nlte else 'LTE'}, {path.name}", read)


# --- FERRE ------------------------------------------------------------------------------------------------------------


def read_ferre(path: Path, limits: Limits, *, medium: str | None = None, per: str = "wavelength") -> Library:
    """A grid of FERRE (Allende Prieto et al. 2006), text or gzipped text, of one header or of several (MULTI).

    lambda_i = WAVE(1) + WAVE(2) (i - 1) for LOGW = 0; LOGW = 1: its decimal logarithm, 2: its natural one; Angstrom.
    Label j of a node is LLIMITS(j) + STEPS(j) times its place, the last label running fastest. VACUUM says where the
    wavelengths are; medium where it does not. RESOLUTION is what the spectra are smoothed to already. per: what the
    flux is per. Lines that are INVALID_CODE throughout, or zero, are holes. Raises ValueError, also for grids that are
    compressed (NPCA), transposed or binary.
    """
    with _open_text(path) as handle:
        headers, first = _ferre_headers(path, handle)
    main, segments = headers[0], headers[1:] or headers[:1]
    shape = np.atleast_1d(main["n_p"]).astype(int)
    names = [_label_name(text) for text in main["label"]]
    axes = [low + step * np.arange(n) for low, step, n in zip(main["llimits"], main["steps"], shape, strict=True)]
    labels = np.round(np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1), 6)
    for header in segments:
        if len(np.atleast_1d(header.get("wave", []))) != 2:
            raise XpjaxError(f"{path}: the header has no WAVE = start step; add it")
    wavelength = np.concatenate([_ferre_wavelength(header) for header in segments])
    if len(wavelength) != int(main["npix"]) and len(segments) > 1:
        raise XpjaxError(f"{path}: the headers' NPIX add up to {len(wavelength)}, the first says {int(main['npix'])}")
    stated = {0: "air", 1: "vacuum"}.get(int(segments[0]["vacuum"])) if "vacuum" in segments[0] else None
    where = medium or stated
    if where is None:
        raise XpjaxError(f"{path}: the header does not say (VACUUM) whether wavelengths are in air; {SAY_MEDIUM}")
    own = np.concatenate([np.full(int(h["npix"]), float(h.get("resolution", np.inf))) for h in segments])
    variance = (wavelength * SIGMA_PER_FWHM / np.where(own > 0, own, np.inf)) ** 2
    invalid, constant = main.get("invalid_code"), float(main.get("constant", 0.0))

    def read() -> Iterator[ModelSpectra]:
        kept = within(names, labels, limits)
        with _open_text(path) as handle:
            for _ in range(first):
                next(handle)
            for start in range(0, len(labels), CHUNK):
                rows = slice(start, min(start + CHUNK, len(labels)))
                flux = _ferre_lines(path, handle, rows, first, len(wavelength))
                hole = (flux == 0).all(axis=1)
                if invalid is not None:
                    hole |= (flux == float(invalid)).all(axis=1)
                there = kept[rows] & ~hole
                if there.any():
                    yield _prepared(path, wavelength, flux[there] + constant, labels[rows][there], variance, where, per)
            left = next((line for line in handle if line.strip()), None)
            if left is not None:
                raise XpjaxError(
                    f"{path}: more lines than the {len(labels)} nodes of N_P = {shape.tolist()}; is the last label the "
                    "one that runs fastest, and N_P right?"
                )

    return Library(names, [path], f"FERRE grid {path.name}, wavelengths in {where}", read)


def _open_text(path: Path) -> IO[str]:
    return gzip.open(path, "rt") if path.suffix == ".gz" else path.open()


_ENTRY = re.compile(r"([A-Za-z_]\w*)\s*(?:\(\s*(\d+)\s*\))?\s*=")
_ALWAYS = ("n_of_dim", "n_p", "npix", "llimits", "steps")


def _ferre_headers(path: Path, handle: IO[str]) -> tuple[list[dict[str, Any]], int]:
    """Entries of the headers &SYNTH ... /, by lower-case name, and the number of their lines."""
    headers: list[dict[str, Any]] = []
    wanted, number = 1, 0
    while len(headers) < wanted:
        number += 1
        line = handle.readline()
        if line.strip().upper() != "&SYNTH":
            if line.strip() == "" and line:
                continue
            raise XpjaxError(
                f"{path}: line {number}: expected the header &SYNTH of a FERRE text grid, found {line[:30]!r}; binary "
                "grids (.unf) are to be given as text"
            )
        begun, text = number, []
        while True:
            number += 1
            line = handle.readline()
            if not line or number - begun > 1000:
                raise XpjaxError(f"{path}: line {begun}: the header &SYNTH does not end with a line /; add it")
            if line.strip() in ("/", "&END", "&end"):
                break
            text.append(line.rstrip("\n"))
        headers.append(_namelist(path, begun, "\n".join(text)))
        if len(headers) == 1:
            wanted += int(headers[0].get("multi", 0))
    main = headers[0]
    absent = [name.upper() for name in _ALWAYS if name not in main]
    if absent:
        raise XpjaxError(f"{path}: the header has no {', '.join(absent)}; add it")
    odd = [name for name in ("npca", "transposed") if np.any(np.asarray(main.get(name, 0), float) > 0)]
    if odd:
        raise XpjaxError(f"{path}: {odd[0].upper()} grids are not read; give the grid of the spectra themselves")
    n = int(main["n_of_dim"])
    main.setdefault("label", [f"label{k + 1}" for k in range(n)])
    for name in ("n_p", "llimits", "steps", "label"):
        main[name] = np.atleast_1d(main[name]) if name != "label" else list(np.atleast_1d(main[name]))
        if len(main[name]) != n:
            raise XpjaxError(
                f"{path}: {name.upper()} has {len(main[name])} values, and N_OF_DIM is {n}; mend the header"
            )
    return headers, number


def _namelist(path: Path, first: int, text: str) -> dict[str, Any]:
    """Entries NAME = value value ..., NAME(i) = value of a Fortran namelist: a number, an array, a text or a list."""
    # Quoted text may hold anything, also `=`: it is put aside first.
    quoted: list[str] = []

    def aside(found: re.Match[str]) -> str:
        quoted.append(found[0][1:-1].strip())
        return f" \0{len(quoted) - 1} "

    bare = re.sub(r"'[^']*'|\"[^\"]*\"", aside, text)
    entries: dict[str, Any] = {}
    found = list(_ENTRY.finditer(bare))
    if not found:
        raise XpjaxError(f"{path}: line {first}: the header &SYNTH is empty; expected NAME = value")
    ends = [*[f.start() for f in found[1:]], len(bare)]
    for entry, end in zip(found, ends, strict=True):
        name, place = entry[1].lower(), entry[2]
        words = bare[entry.end() : end].replace(",", " ").split()
        values: list[Any] = []
        for word in words:
            many, _, value = word.rpartition("*")
            if value.startswith("\0"):
                one: Any = quoted[int(value[1:])]
            else:
                try:
                    one = float(re.sub("[dD]", "e", value))
                except ValueError:
                    one = value
            values += [one] * (int(many) if many.isdigit() else 1)
        if place is not None:
            whole = entries.setdefault(name, [])
            whole += [""] * (int(place) - len(whole))
            whole[int(place) - 1] = values[0] if values else ""
        elif len(values) == 1:
            entries[name] = values[0]
        else:
            numbers = all(isinstance(value, float) for value in values)
            entries[name] = np.array(values) if numbers else values
        if name in (*_ALWAYS, "wave", "multi", "logw") and not all(isinstance(value, float) for value in values):
            line = first + 1 + bare[: entry.start()].count("\n")
            raise XpjaxError(f"{path}: line {line}: {name.upper()} = {' '.join(words)}: expected numbers")
    return entries


def _ferre_wavelength(header: Mapping[str, Any]) -> np.ndarray:
    """Wavelengths (npix,) [nm] of a header."""
    start, step = header["wave"]
    x = start + step * np.arange(int(header["npix"]))
    logarithm = int(header.get("logw", 0))
    return 0.1 * (x if logarithm == 0 else 10**x if logarithm == 1 else np.exp(x))


def _ferre_lines(path: Path, handle: IO[str], rows: slice, first: int, n: int) -> np.ndarray:
    """Fluxes (n_row, n) of the next lines."""
    flux = np.empty((rows.stop - rows.start, n))
    for k in range(len(flux)):
        line, number = handle.readline(), first + rows.start + k + 1
        if not line:
            raise XpjaxError(
                f"{path}: ends after line {number - 1}, with {rows.start + k} of the nodes; fetch it again"
            )
        try:
            flux[k] = np.array(line.split(), float)
        except ValueError:
            found = len(line.split())
            what = f"{found} values, but NPIX is {n}" if found != n else "a value that is no number"
            raise XpjaxError(f"{path}: line {number}: {what}; mend the line or the header") from None
    return flux


def _label_name(text: str) -> str:
    """The name of a label here: lower case, without brackets and blanks, and familiar ones as in NAMES."""
    bare = re.sub(r"[\[\]\s]", "", str(text)).lower()
    return NAMES.get(bare, re.sub(r"\W", "_", bare))


# --- a file for each spectrum -----------------------------------------------------------------------------------------

_FIELD = re.compile(r"\{(\w+)(?:/(\d+(?:\.\d+)?))?\}")
_NUMBER = r"([-+mp]?\d+(?:\.\d+)?)"


def read_files(
    path: Path,
    limits: Limits,
    *,
    pattern: str = "*",
    keywords: Mapping[str, str] | None = None,
    wavelengths: str | Path | None = None,
    unit: str | None = None,
    medium: str | None = None,
    per: str = "wavelength",
    own_resolution: float | None = None,
) -> Library:
    """A folder with a file for each spectrum: FITS table or image, or text, also gzipped; of one kind throughout.

    pattern: what file names look like, * for anything and {label} for the number of a label, {label/10} for ten times
    it; m and p before a number are signs: `lte{teff}-{logg}{mh}.PHOENIX*`, `amm{mh/10}*t{teff}g{logg/10}*`. keywords:
    label -> FITS keyword. wavelengths: a file with them, where the files have fluxes alone. unit of wavelengths, where
    FITS tables do not say it; medium vacuum or air; per: what flux is per; own_resolution: the library's lambda/FWHM.

    Wavelength and flux are the columns that are called so, or the first two; of an image the axis of its header
    (CRVAL1, CDELT1) where there is no file of wavelengths. Raises ValueError.
    """
    if medium is None:
        raise XpjaxError(f"{path}: files do not say whether their wavelengths are in air; {SAY_MEDIUM}")
    keywords = dict(keywords or {})
    fields = [(name, float(divisor or 1)) for name, divisor in _FIELD.findall(pattern)]
    names = [*(name for name, _ in fields), *keywords]
    if not names or len({*names}) != len(names):
        raise XpjaxError(
            f"labels {names}: name each once, in pattern= as in '*t{{teff}}g{{logg/10}}*', or in keywords= by their "
            "FITS keywords (--pattern, --keyword)"
        )
    parts = [re.escape(text).replace(r"\*", ".*") for text in re.split(r"\{[^}]*\}", pattern)]
    matcher = re.compile(_NUMBER.join(parts))
    shared = None if wavelengths is None else expanded(wavelengths)
    files = sorted(f for f in path.rglob("*") if f.is_file() and matcher.fullmatch(f.name) and f != shared)
    if not files:
        raise XpjaxError(f"{path}: no file name is like the pattern {pattern!r}; * stands for anything")
    grid = None if shared is None else _in_nm(shared, *_wavelength_file(shared), unit)

    def read() -> Iterator[ModelSpectra]:
        for file in files:
            match = matcher.fullmatch(file.name)
            assert match is not None
            signed = (re.sub("^p", "+", re.sub("^m", "-", text)) for text in match.groups())
            early = [float(text) / scale for text, (_, scale) in zip(signed, fields, strict=True)]
            known = [name for name, _ in fields]
            if not within(known, np.array([early]), {k: v for k, v in limits.items() if k in known})[0]:
                continue
            header, x, flux = _spectrum(file, grid, unit)
            late = [_keyword(file, header, keyword) for keyword in keywords.values()]
            labels = np.array([[*early, *late]])
            if not within(names, labels, limits)[0] or not np.any(flux):
                continue
            own = np.inf if own_resolution is None else own_resolution
            yield _prepared(file, x, flux[None], labels, (x * SIGMA_PER_FWHM / own) ** 2, medium, per)

    origin = f"{path.name}: files {pattern}, wavelengths in {medium}"
    return Library(names, [*files, *([shared] if shared else [])], origin, read)


def _keyword(file: Path, header: Mapping[str, Any], keyword: str) -> float:
    try:
        return float(header[keyword])
    except (KeyError, ValueError, TypeError):
        found = f"is {header[keyword]!r}" if keyword in header else "is not there"
        raise XpjaxError(f"{file}: the keyword {keyword} {found}, expected a number; name another keyword") from None


def _in_nm(file: Path, wavelength: np.ndarray, stated: str | None, unit: str | None) -> np.ndarray:
    chosen = unit or stated
    if not chosen:
        raise XpjaxError(f"{file}: no unit of wavelengths; pass unit= (--unit): nm, Angstrom, um")
    return to_nm(np.asarray(wavelength, float), chosen, file)


def _is_fits(file: Path) -> bool:
    return file.name.lower().removesuffix(".gz").endswith((".fits", ".fit"))


def _wavelength_file(file: Path) -> tuple[np.ndarray, str | None]:
    """Wavelengths (n,) and their unit, where stated, of a file with nothing else in its first column or image."""
    if not file.is_file():
        raise FileNotFoundError(f"no file of wavelengths {file}")
    if not _is_fits(file):
        return _text_columns(file)[0], None
    header, data = _open_fits(file)
    if data.dtype.names:
        return np.ravel(data[data.dtype.names[0]]), header.get("TUNIT1")
    return np.ravel(data), header.get("UNIT") or header.get("BUNIT")


def _spectrum(
    file: Path, grid: np.ndarray | None, unit: str | None
) -> tuple[Mapping[str, Any], np.ndarray, np.ndarray]:
    """Header (empty for text), wavelengths (n,) [nm] and flux (n,) of a file."""
    if not _is_fits(file):
        columns = _text_columns(file)
        if grid is not None:
            return {}, grid, columns[0]
        if len(columns) < 2:
            raise XpjaxError(f"{file}: one column, and no wavelengths; pass wavelengths= (--wavelengths FILE)")
        return {}, _in_nm(file, columns[0], None, unit), columns[1]
    header, data = _open_fits(file)
    if data.dtype.names:
        lower = {name.lower(): name for name in data.dtype.names}
        x, y = (
            next((own for low, own in lower.items() if low.startswith(starts)), None)
            for starts in (("wave", "lambda", "loglam"), ("flux", "specificintensity", "intensity"))
        )
        y = y or data.dtype.names[min(1 if grid is None else 0, len(data.dtype.names) - 1)]
        flux = np.ravel(data[y]).astype(float)
        if grid is not None:
            return header, grid, flux
        x = x or data.dtype.names[0]
        wavelength = np.ravel(data[x]).astype(float)
        if x.lower().startswith("loglam"):
            wavelength = 10**wavelength
        return header, _in_nm(file, wavelength, header.get(f"TUNIT{data.dtype.names.index(x) + 1}"), unit), flux
    flux = np.ravel(data).astype(float)
    if grid is not None:
        return header, grid, flux
    step = header.get("CDELT1", header.get("CD1_1"))
    if step is None or "CRVAL1" not in header:
        raise XpjaxError(f"{file}: an image without an axis (CRVAL1, CDELT1); pass wavelengths= (--wavelengths FILE)")
    x = header["CRVAL1"] + step * (np.arange(len(flux)) + 1 - header.get("CRPIX1", 1))
    if "LOG" in str(header.get("CTYPE1", "")).upper():
        x = np.exp(x) if "LN" in str(header["CTYPE1"]).upper() else 10**x
    return header, _in_nm(file, x, header.get("CUNIT1"), unit), flux


def _text_columns(file: Path) -> list[np.ndarray]:
    """Columns of numbers of a text file, also gzipped, with blanks or commas between; # begins a comment."""
    with _open_text(file) as handle:
        lines = list(itertools.islice((line for line in handle if line.strip() and line.lstrip()[0] != "#"), 1))
    comma = "," if lines and "," in lines[0] else None
    try:
        return list(np.loadtxt(file, ndmin=2, delimiter=comma, unpack=True))
    except ValueError as exc:
        what = str(exc).partition(";")[0]
        raise XpjaxError(f"{file}: expected columns of numbers ({what}); mend the line, or mark it with #") from exc


FORMATS: dict[str, Callable[..., Library]] = {
    "ck04": read_ck04,
    "nextgen": read_nextgen,
    "ferre": read_ferre,
    "files": read_files,
}
"""Readers by format."""
