"""Gaia data releases: which photometers, and how many basis functions each."""

from __future__ import annotations

import dataclasses
import itertools
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


def release_attributes(release: Release) -> dict[str, object]:
    """What a file says of the release that it was made for, as attributes."""
    return {"release_name": release.name, "release_n_basis": list(release.n_basis), "release_xp": list(release.xp)}


def release_of(attributes: Mapping[str, Any]) -> Release:
    """The release that a file was made for, from its attributes."""
    n_basis, xps = attributes["release_n_basis"], attributes["release_xp"]
    return Release(str(attributes["release_name"]), tuple(int(n) for n in n_basis), tuple(str(xp) for xp in xps))
