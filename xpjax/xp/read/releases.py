"""Which release tables are of: by numbers of coefficients, by what they state, by the archive's names of files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from xpjax.core.archive import release_of_name
from xpjax.core.errors import XpjaxError, say
from xpjax.core.release import DR3, RELEASES, Release, other_release, stated_release
from xpjax.io.cells import Vectors
from xpjax.xp.read.layout import Table, numbers


def say_release() -> str:
    """How to say which release is meant."""
    return say("release=", "--release")


def sizes_text(release: Release) -> str:
    """The numbers of coefficients of a release, as in `51 + 55`."""
    return " + ".join(map(str, release.n_basis))


def infer_release(tables: Sequence[Table]) -> tuple[Release, bool]:
    """The release that all tables are of together, and whether they tell it.

    Numbers of coefficients decide, with what headers and names say where they are those of several releases, as RP's
    alone are; where nothing else tells it is DR3. Raises XpjaxError where tables contradict each other or themselves.
    """
    sizes = _sizes(tables)
    fitting = [r for r in RELEASES if all(size in (None, n) for size, n in zip(sizes, r.n_basis, strict=True))]
    named = _named(tables)
    if named is not None:
        release, who = named
        if release in fitting:
            return release, True
        xp, found = next((xp, n) for xp, n, m in zip(DR3.xp, sizes, release.n_basis, strict=True) if n not in (None, m))
        raise XpjaxError(
            f"{who} {release.name}, whose spectra have {sizes_text(release)} coefficients, but {xp}_coefficients has "
            f"{found} numbers, as {' and '.join(r.name for r in fitting) or 'no release that is known'} has; download "
            f"the file again, or to say which is right pass {say_release()}"
        )
    if fitting:
        usual = [release_of_name(name, first=True) for table in tables for name in _names(table)]
        return fitting[0], len(fitting) == 1 or not any(sizes) or fitting[0] in usual
    full = tuple(size or standard for size, standard in zip(sizes, DR3.n_basis, strict=True))
    names = {table.release for table in tables} - {None}
    return Release((len(names) == 1 and names.pop()) or "+".join(map(str, full)), full), True


def untold(origin: str) -> str:
    """What is said of an input that does not tell its release."""
    return (
        f"{origin}: no source has BP, and neither header nor name tells the release: taken as {DR3.name}; if it is "
        f"another pass {say('release=', 'a file that has BP too, or a name such as MEAN_SPECTRUM_XP...')}"
    )


def check_table(table: Table, release: Release, said: bool = True) -> None:
    """Raise XpjaxError for a table of another known release than the one that is expected.

    said: it is the user's word, which overrules what the table says of itself; else that must not contradict itself.
    """
    try:
        found, told = infer_release([table])
    except XpjaxError:
        if said or release not in RELEASES:  # then rows are told, where they do not fit
            return
        raise
    if told and any(_sizes([table])) and found in RELEASES and not found.fits(release):  # no rows tell nothing
        raise other_release(table.origin, found, release)


def _sizes(tables: Sequence[Table]) -> tuple[int | None, ...]:
    """Number of coefficients of each XP, None where no row of any table tells. Raises XpjaxError where they differ."""
    sizes: list[int | None] = []
    for k, xp in enumerate(DR3.xp):
        found = [infer_size(table, xp) for table in tables]
        distinct = {size: table.origin for table, size in zip(tables, found, strict=True) if size is not None}
        if len(distinct) > 1:
            listed = ", ".join(f"{size} in {origin}" for size, origin in distinct.items())
            known = [r.name for size in distinct for r in RELEASES if r.n_basis[k] == size]
            raise XpjaxError(
                f"{xp}_coefficients has different lengths: {listed}"
                + f" ({', '.join(known)})" * bool(known)
                + "; read "
                "each release by itself"
            )
        sizes.append(next(iter(distinct), None))
    return tuple(sizes)


def _named(tables: Sequence[Table]) -> tuple[Release, str] | None:
    """The known release that headers or names of files say, and who says so. Raises XpjaxError for several."""
    said: dict[Release, str] = {}
    for table in tables:
        told = [(stated_release(table.release), "header"), *((release_of_name(name), "name") for name in _names(table))]
        for release, what in told:
            if release is not None:
                said.setdefault(release, f"{table.origin}: its {what} says")
    if len(said) > 1:
        listed = ", ".join(f"{who} {release.name}" for release, who in said.items())
        raise XpjaxError(f"several releases: {listed}; read each release by itself, or pass {say_release()}")
    return next(iter(said.items()), None)


def _names(table: Table) -> list[str]:
    """The name of its file, without folders, and that of the member of a zip file."""
    return [re.split(r"[/\\]", part)[-1] for part in table.origin.split("[")]


def of_release(table: Table, release: Release) -> bool:
    """Whether the rows of a table, if any tells, are of this release. Raises XpjaxError where they contradict."""
    sizes = [infer_size(table, xp, n) for xp, n in zip(DR3.xp, release.n_basis, strict=True)]
    return all(size in (None, n) for size, n in zip(sizes, release.n_basis, strict=True))


def infer_size(table: Table, xp: str, expected: int | None = None) -> int | None:
    """Number of basis functions of one XP, None where no row tells. Raises XpjaxError where rows contradict."""
    vectors = table.columns[f"{xp}_coefficients"]
    assert isinstance(vectors, Vectors)
    known = _known(xp)
    there = vectors.length[vectors.length > 0]
    if not len(there):
        return None
    for size in dict.fromkeys([*([] if expected is None else [expected]), *known]):
        if 2 * np.count_nonzero(there == size) >= len(there):  # the rows that differ are bad rows
            _refuse_mixed(table, xp, vectors, size, known)
            if size != DR3.n_basis[DR3.xp.index(xp)]:
                _refuse_odd(table, xp, vectors, size, known)
            return size
    lengths, counts = np.unique(there, return_counts=True)
    size = int(lengths[0])
    if len(lengths) > 1 or size < 2:
        common = lengths[counts.argmax()]
        row = int(np.flatnonzero((vectors.length > 0) & ((vectors.length != common) | (size < 2)))[0])
        raise XpjaxError(
            f"{table.origin}: row {row + 1}: {xp}_coefficients has {vectors.length[row]} numbers, expected "
            f"{_listed(known)}, or one other number in all rows, not {', '.join(map(str, lengths[:9]))}; {_advice()}"
        )
    _refuse_odd(table, xp, vectors, size, known)
    return size


def _known(xp: str) -> dict[int, str]:
    """The known numbers of basis functions of one XP, and the releases that have them."""
    place = DR3.xp.index(xp)
    out: dict[int, str] = {}
    for release in RELEASES:
        n = release.n_basis[place]
        out[n] = f"{out[n]}, {release.name}" if n in out else release.name
    return out


def _listed(known: Mapping[int, str]) -> str:
    return " or ".join(f"{size} ({names})" for size, names in known.items())


def _advice() -> str:
    return f"to say which is right pass {say_release()}; or download the file again"


def _refuse_mixed(table: Table, xp: str, vectors: Vectors, size: int, known: Mapping[int, str]) -> None:
    """Raise XpjaxError where rows are whole spectra of another known release: not damaged, but of two releases."""
    for other in known:
        rows = np.flatnonzero(vectors.length == other) if other != size else np.zeros(0, int)
        if not len(rows):
            continue
        stated, _ = numbers(table, f"{xp}_n_parameters")
        errors = table.columns.get(f"{xp}_coefficient_errors")
        length = errors.length if isinstance(errors, Vectors) else np.zeros(table.n, int)
        whole = rows[(stated[rows] == other) | (np.isnan(stated[rows]) & (length[rows] == other))]
        if len(whole):
            mine = int(np.flatnonzero(vectors.length == size)[0])
            raise XpjaxError(
                f"{table.origin}: holds sources of two releases: row {mine + 1} has {size} numbers in "
                f"{xp}_coefficients ({known.get(size, 'another release')}), row {whole[0] + 1} has {other} "
                f"({known[other]}); split the table, and read each release by itself"
            )


def _refuse_odd(table: Table, xp: str, vectors: Vectors, size: int, known: Mapping[int, str]) -> None:
    """Raise XpjaxError where other columns say that so many coefficients are not all of them."""
    own = vectors.length == size
    stated, _ = numbers(table, f"{xp}_n_parameters")
    others = np.flatnonzero(own & np.isfinite(stated) & (stated != size))
    witnesses = [(f"{xp}_n_parameters is {stated[i]:g}", int(i)) for i in others[:1]]
    errors = table.columns.get(f"{xp}_coefficient_errors")
    if isinstance(errors, Vectors) and not (errors.length == size).any() and (errors.length > 0).any():
        row = int(np.flatnonzero(errors.length > 0)[0])
        witnesses.append((f"{xp}_coefficient_errors has {errors.length[row]}", row))
    if witnesses:
        other, row = witnesses[0]
        raise XpjaxError(
            f"{table.origin}: row {row + 1}: {xp}_coefficients has {size} numbers, but {other}; expected "
            f"{_listed(known)}, or one other number throughout; {_advice()}"
        )
