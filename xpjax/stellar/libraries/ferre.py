"""Grids of FERRE, text with namelist headers."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import IO, Any

import numpy as np

from xpjax.core.constants import SIGMA_PER_FWHM
from xpjax.core.errors import XpjaxError
from xpjax.io.streams import open_bytes, reading, text_lines
from xpjax.io.words import abridged, is_missing
from xpjax.stellar.libraries.library import Library, Limits, Models, agreed_medium, option, prepared, within

NAMES = {"logt": "logteff", "fe/h": "mh", "m/h": "mh", "metals": "mh", "feh": "mh", "z": "mh", "log_g": "logg"}
"""Names of labels in libraries that are called otherwise here."""
CHUNK = 256
"""Lines of a grid that are held at a time."""
KIND = "a text grid of FERRE"
_ENTRY = re.compile(r"([A-Za-z_]\w*)\s*(?:\(\s*(\d+)\s*\))?\s*=")
_ALWAYS = ("n_of_dim", "n_p", "npix", "llimits", "steps")


def read_ferre(path: Path, limits: Limits, *, medium: str | None = None, per: str = "wavelength") -> Library:
    """A grid of FERRE (Allende Prieto et al. 2006), text, also packed, of one header or of several (MULTI).

    lambda_i = WAVE(1) + WAVE(2) (i - 1) for LOGW = 0; LOGW = 1: its decimal logarithm, 2: its natural one; Angstrom.
    Label j of a node is LLIMITS(j) + STEPS(j) times its place, the last label running fastest. VACUUM says where the
    wavelengths are; medium where it does not. RESOLUTION is what the spectra are smoothed to already. per: what the
    flux is per. Lines that are INVALID_CODE throughout, or zero, are holes. Raises XpjaxError, also for grids that are
    compressed (NPCA), transposed or binary, and for a medium that contradicts VACUUM.
    """
    with reading(path, KIND), text_lines(open_bytes(path)) as handle:
        headers, first = _headers(path, handle)
    main, segments = headers[0], headers[1:] or headers[:1]
    shape = main["n_p"].astype(int)
    names = [_label_name(text) for text in main["label"]]
    axes = [low + step * np.arange(n) for low, step, n in zip(main["llimits"], main["steps"], shape, strict=True)]
    labels = np.round(np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1), 6)
    wavelength = np.concatenate([_wavelength(path, header) for header in segments])
    if len(wavelength) != int(main["npix"]) and len(segments) > 1:
        raise XpjaxError(f"{path}: the headers' NPIX add up to {len(wavelength)}, the first says {int(main['npix'])}")
    said = [(f"VACUUM = {h['vacuum']:g}", {0: "air", 1: "vacuum"}.get(h["vacuum"])) for h in headers if "vacuum" in h]
    where = agreed_medium(path, "the header does not say (VACUUM)", *said, (option("medium", medium), medium))
    own = np.concatenate([np.full(int(h["npix"]), float(h.get("resolution", np.inf))) for h in segments])
    variance = (wavelength * SIGMA_PER_FWHM / np.where(own > 0, own, np.inf)) ** 2
    invalid, constant = main.get("invalid_code"), float(main.get("constant", 0.0))

    def read() -> Models:
        kept = within(names, labels, limits)
        with reading(path, KIND), text_lines(open_bytes(path)) as handle:
            for _ in range(first):
                next(handle)
            for start in range(0, len(labels), CHUNK):
                rows = slice(start, min(start + CHUNK, len(labels)))
                flux = _lines(path, handle, kept[rows], first + start, len(wavelength))
                hole = (flux == 0).all(axis=1)
                if invalid is not None:
                    hole |= (flux == float(invalid)).all(axis=1)
                there = kept[rows] & ~hole
                if there.any():
                    yield prepared(path, wavelength, flux[there] + constant, labels[rows][there], variance, where, per)
            if any(line.strip() for line in handle):
                raise XpjaxError(
                    f"{path}: more lines than the {len(labels)} nodes of N_P = {shape.tolist()}; is the last label the "
                    "one that runs fastest, and N_P right?"
                )

    return Library(names, [path], f"FERRE grid {path.name}, wavelengths in {where}", read)


def _headers(path: Path, handle: IO[str]) -> tuple[list[dict[str, Any]], int]:
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
        while line.strip().upper() not in ("/", "&END"):
            number += 1
            line = handle.readline()
            if not line or number - begun > 1000:
                raise XpjaxError(f"{path}: line {begun}: the header &SYNTH does not end with a line /; add it")
            text.append(line.rstrip())
        headers.append(_namelist(path, begun, "\n".join(text[:-1])))
        wanted = 1 + int(headers[0].get("multi", 0))
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
        main[name] = np.atleast_1d(main[name])
        if len(main[name]) != n:
            raise XpjaxError(f"{path}: {name.upper()} has {len(main[name])} values, and N_OF_DIM is {n}; mend one")
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
            one: Any = quoted[int(value[1:])] if value.startswith("\0") else value
            if not value.startswith("\0"):
                with contextlib.suppress(ValueError):
                    one = _number(value)
            values += [one] * (int(many) if many.isdigit() else 1)
        numbers = all(isinstance(value, float) for value in values)
        if place is not None:
            whole = entries.setdefault(name, [])
            whole += [""] * (int(place) - len(whole))
            whole[int(place) - 1] = values[0] if values else ""
        else:
            entries[name] = values[0] if len(values) == 1 else np.array(values) if numbers else values
        if name in (*_ALWAYS, "wave", "multi", "logw", "vacuum", "resolution", "invalid_code") and not numbers:
            line = first + 1 + bare[: entry.start()].count("\n")
            raise XpjaxError(f"{path}: line {line}: {name.upper()} = {' '.join(words)}: expected numbers")
    return entries


def _number(text: str) -> float:
    """A number, also with Fortran's exponent D. Raises ValueError."""
    return float(re.sub("[dD]", "e", text))


def _wavelength(path: Path, header: dict[str, Any]) -> np.ndarray:
    """Wavelengths (npix,) [nm] of a header."""
    if len(np.atleast_1d(header.get("wave", []))) != 2:
        raise XpjaxError(f"{path}: the header has no WAVE = start step; add it")
    start, step = header["wave"]
    logarithm = header.get("logw", 0)
    if logarithm not in (0, 1, 2):
        raise XpjaxError(f"{path}: LOGW = {logarithm:g}; expected 0, 1 (decimal logarithms) or 2 (natural ones)")
    x = start + step * np.arange(int(header["npix"]))
    with np.errstate(over="ignore"):
        return 0.1 * (x if logarithm == 0 else 10**x if logarithm == 1 else np.exp(x))


def _lines(path: Path, handle: IO[str], kept: np.ndarray, passed: int, n: int) -> np.ndarray:
    """Fluxes (n_row, n) of the next lines, after `passed` ones; finite where they are kept (n_row,)."""
    flux = np.empty((len(kept), n))
    for k in range(len(flux)):
        line, number = handle.readline(), passed + k + 1
        if not line:
            raise XpjaxError(f"{path}: ends after line {number - 1}, before the last node of N_P; fetch it again")
        words = line.split()
        if len(words) != n:
            raise XpjaxError(
                f"{path}: line {number}: {len(words)} values, but NPIX is {n}; mend the line or the header"
            )
        try:
            flux[k] = np.array(words, float)
        except ValueError:
            flux[k] = [np.nan if is_missing(word) else _checked(path, number, word) for word in words]
        if kept[k] and not np.isfinite(flux[k]).all():
            j = int(np.argmin(np.isfinite(flux[k])))
            raise XpjaxError(f"{path}: line {number}: value {j + 1} is {words[j]}; mend the line, or make it a hole")
    return flux


def _checked(path: Path, number: int, word: str) -> float:
    try:
        return _number(word)
    except ValueError:
        raise XpjaxError(
            f"{path}: line {number}: a value that is no number, {abridged(word)}; mend the line or the header"
        ) from None


def _label_name(text: str) -> str:
    """The name of a label here: lower case, without brackets and blanks, and familiar ones as in NAMES."""
    bare = re.sub(r"[\[\]\s]", "", str(text)).lower()
    return NAMES.get(bare, re.sub(r"\W", "_", bare))
