"""GaiaXPy's enumeration of photometric systems, and systems from files of the user's own."""

from __future__ import annotations

import enum
import functools
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from xpjax.compat.gaiaxpy.reading import VERSION
from xpjax.compat.gaiaxpy.settings import is_strict
from xpjax.core.constants import AB_ZERO_POINT
from xpjax.core.paths import DATA
from xpjax.core.release import DR3, RELEASES, Release
from xpjax.core.types import PathLike
from xpjax.synthetic import (
    PhotometricSystem as Projections,
    available_systems,
    find_gaiaxpy,
    from_projection,
    load_system,
    read_gaiaxpy,
    refused_bands,
)

BROKEN = DATA / "broken_dr3.h5"
"""Bands that xpjax refuses because their tables are broken, as GaiaXPy has them: for `strict` mode alone."""


class RegularPhotometricSystem:
    """The value of a member: label, bands, zero points [mag], offsets (flux biases) and version."""

    standardized = False

    def __init__(self, name: str, path: Path | None = None, version: str = VERSION) -> None:
        self.name, self.path, self.version = name, path, version

    @functools.cached_property
    def engine(self) -> Projections:
        """The system as xpjax computes it: without bands whose tables are broken."""
        if self.path is None:
            return load_system(self.name)
        file = read_gaiaxpy(self.path)
        other = Release("+".join(map(str, file.n_basis)), file.n_basis)
        return from_projection(
            file.projection,
            file.zero_point,
            file.names,
            self.name,
            next((release for release in RELEASES if release.fits(other)), other),
            flux_bias=file.flux_bias if self.standardized else None,
            mean_wavelength=file.mean_wavelength,
            standardized=self.standardized,
        )

    def engines(self, release: Release = DR3) -> list[Projections]:
        """What to compute of sources of a release: in `strict` mode DR3's broken bands too, which GaiaXPy has."""
        if not self.path and not release.fits(DR3):
            return [load_system(self.name, release=release)]
        broken = [load_system(self.name, path=BROKEN)] if is_strict() and self._refused else []
        return [*broken, self.engine]

    @property
    def label(self) -> str:
        """What its columns begin with."""
        return self.name if self.path else self.engine.labels[0]

    @property
    def _refused(self) -> list[str]:
        """Bands that GaiaXPy has and xpjax refuses: they come first."""
        if self.path:
            return []
        start = f"{self.label}_"
        return [band.removeprefix(start) for band in refused_bands() if band.startswith(start)]

    @property
    def bands(self) -> list[str]:
        """Names of the bands."""
        return [*self._refused, *self.engine.names]

    @property
    def zero_points(self) -> np.ndarray:
        """Zero points (n_band,) [mag]."""
        return np.append(np.full(len(self._refused), AB_ZERO_POINT), self.engine.zero_point)

    @property
    def offsets(self) -> np.ndarray:
        """What is added to the fluxes (n_band,)."""
        if self.path:
            return read_gaiaxpy(self.path).flux_bias
        return np.append(np.zeros(len(self._refused)), np.multiply(self.engine.flux_bias, self.engine.scale))


class StandardisedPhotometricSystem(RegularPhotometricSystem):
    """A system that is tied to standard stars: its offsets are added to the fluxes."""

    standardized = True


class _Member(enum.Enum):
    """What every member of `PhotometricSystem` can do."""

    def get_system_name(self) -> str:
        return self.name

    def get_system_label(self) -> str:
        return self.value.label

    def get_zero_points(self) -> np.ndarray:
        return self.value.zero_points

    def get_bands(self) -> list[str]:
        return self.value.bands

    def get_offsets(self) -> np.ndarray:
        return self.value.offsets

    def get_version(self) -> str:
        return self.value.version

    @staticmethod
    def get_available_systems() -> str:
        """The names of all systems, those loaded among them, joined by commas."""
        return ", ".join([*_published(), *_loaded])


_loaded: dict[str, RegularPhotometricSystem] = {}
"""The systems of the user's own: the one state of this package, as GaiaXPy's interface has it."""


@functools.cache
def _published() -> dict[str, RegularPhotometricSystem]:
    kinds = {True: StandardisedPhotometricSystem, False: RegularPhotometricSystem}
    names = sorted(available_systems(), key=lambda name: name.replace("_", "").lower())
    return {name: kinds[name.lower().endswith("_std")](name) for name in names}


def built_in() -> dict[str, RegularPhotometricSystem]:
    """The published systems by their labels."""
    return {one.label: one for one in _published().values()}


def enumeration() -> type[enum.Enum]:
    """A new `PhotometricSystem`: an enumeration of all systems."""
    make: Any = _Member  # the functional interface of enum
    return make("PhotometricSystem", {**_published(), **_loaded}, module=__package__)


def load_additional_systems(_systems_path: PathLike | None = None) -> type[enum.Enum]:
    """Load the systems in the files NAME.gaiaXPy_dr3_VERSION.xml below a folder; asks for the folder if none is given.

    Returns the new enumeration, with members USER_NAME; systems loaded before are replaced. Raises ValueError.
    """
    given = str(_systems_path or input("Path of the folder with the systems: ")).strip("'\"")
    files, version = find_gaiaxpy(given)
    new: dict[str, RegularPhotometricSystem] = {}
    for name, path in files.items():
        kind = StandardisedPhotometricSystem if name.lower().endswith("std") else RegularPhotometricSystem
        new[name] = kind(name, path, version)
        new[name].engine  # noqa: B018  # a damaged file is told now
    remove_additional_systems()
    _loaded.update(new)
    return enumeration()


def remove_additional_systems() -> type[enum.Enum]:
    """Forget the systems that were loaded. Returns the new enumeration."""
    _loaded.clear()
    return enumeration()


AnyMembers: TypeAlias = enum.Enum | list[enum.Enum]
"""A member of `PhotometricSystem`, or several; GaiaXPy's own members too."""


def chosen(photometric_system: AnyMembers | None) -> list[RegularPhotometricSystem]:
    """The systems of one member or of a list of them; GaiaXPy's own members do too. Raises ValueError for none."""
    if photometric_system is None or photometric_system in ([], ""):
        raise ValueError("name at least one photometric system, such as PhotometricSystem.JPLUS")
    members = photometric_system if isinstance(photometric_system, list) else [photometric_system]
    known = {**_published(), **_loaded}
    return [m.value if isinstance(m.value, RegularPhotometricSystem) else known[m.name] for m in members]
