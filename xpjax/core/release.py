"""Gaia data releases: which photometers, and how many basis functions each."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError


@dataclasses.dataclass(frozen=True)
class Release:
    """Describe a Gaia data release: its photometers and the number of basis functions of each spectrum.

    Every size in xpjax comes from a release: Gaia DR3 has 55 + 55 basis functions, later releases may have others.

    Parameters
    ----------
    name : str
        Name of the release.
    n_basis : tuple of int
        Number of basis functions, and so of coefficients, for each photometer.
    xp : tuple of str
        The photometers.

    Examples
    --------
    >>> release = xpjax.Release("Gaia DR3", (55, 55))
    >>> release.n_basis_total, release.n_pair_total
    (110, 2970)
    """

    name: str
    n_basis: tuple[int, ...]
    xp: tuple[str, ...] = ("bp", "rp")

    def __post_init__(self) -> None:
        if len(self.n_basis) != len(self.xp) or min(self.n_basis) < 1:
            raise XpjaxError(f"release {self.name!r} needs one positive n_basis for each of {self.xp}: {self.n_basis}")

    @property
    def n_basis_total(self) -> int:
        """Number of coefficients of a source."""
        return sum(self.n_basis)

    @property
    def n_pair(self) -> tuple[int, ...]:
        """Number of correlations (strict lower triangle) for each XP."""
        return tuple(n * (n - 1) // 2 for n in self.n_basis)

    @property
    def n_pair_total(self) -> int:
        """Number of correlations of a source."""
        return sum(self.n_pair)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where each XP's coefficients lie in the joined vector."""
        return _slices(self.n_basis)

    @property
    def pair_slices(self) -> tuple[slice, ...]:
        """Where each XP's correlations lie in the joined packed vector."""
        return _slices(self.n_pair)

    def fits(self, other: Release) -> bool:
        """Whether another release has the same photometers and sizes, whatever it is called."""
        return (self.n_basis, self.xp) == (other.n_basis, other.xp)


def _slices(sizes: Sequence[int]) -> tuple[slice, ...]:
    stops = np.cumsum([0, *sizes])
    return tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(stops))


DR3 = Release("Gaia DR3", (55, 55))
"""Gaia Data Release 3 (2022): 55 BP and 55 RP coefficients."""
DR4 = Release("Gaia DR4", (51, 55))
"""Gaia Data Release 4 (December 2026): 51 BP and 55 RP coefficients."""
RELEASES = (DR3, DR4)
"""The releases that are known by name."""


def find_release(name: str | Release) -> Release:
    """A known release by its name, in any case, with or without `Gaia`; a Release is itself. Raises XpjaxError."""
    if isinstance(name, Release):
        return name
    known = {release.name.lower().removeprefix("gaia "): release for release in RELEASES}
    key = name.strip().lower().removeprefix("gaia").strip(" _-")
    if key not in known:
        raise XpjaxError(f"unknown release {name!r}; expected one of {', '.join(r.name for r in RELEASES)}")
    return known[key]


def stated_release(text: object) -> Release | None:
    """The known release that a file states, as in `Gaia DR4` or `Gaia DR4_RC3`; None for any other text."""
    found = re.match(r"\s*gaia[\s_-]*(dr\d+)(?!\d)", str(text), re.IGNORECASE)
    return next((r for r in RELEASES if found and r.name.lower().removeprefix("gaia ") == found[1].lower()), None)


def other_release(origin: object, found: Release, expected: Release) -> XpjaxError:
    """The refusal of data of one release where another is expected, as an instrument or a system is made for."""
    said = f"{origin} is of {found.name} with {found.n_basis} coefficients for {found.xp}"
    if found.fits(expected):
        return XpjaxError(f"{said}, not of {expected.name}, which has as many; say which release is meant")
    return XpjaxError(
        f"{said}, but {expected.name} with {expected.n_basis} is expected here: use instruments, systems and "
        "corrections of the release of the data, and read each release by itself"
    )


def release_attributes(release: Release) -> dict[str, object]:
    """What a file says of the release that it was made for, as attributes."""
    return {"release_name": release.name, "release_n_basis": list(release.n_basis), "release_xp": list(release.xp)}


def release_of(attributes: Mapping[str, Any]) -> Release:
    """The release that a file was made for, from its attributes."""
    n_basis, xps = attributes["release_n_basis"], attributes["release_xp"]
    name, sizes = str(attributes["release_name"]), tuple(int(n) for n in n_basis)
    found = Release(name, sizes, tuple(str(xp) for xp in xps))
    # A release was called by its sizes before its name was known.
    return next((r for r in RELEASES if r.fits(found) and name == "+".join(map(str, sizes))), found)
