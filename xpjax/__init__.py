"""xpjax: Gaia XP spectra on CPUs and GPUs.

    import xpjax
    sources = xpjax.read("XP_CONTINUOUS.csv")
    stars = xpjax.photometry(sources, "JPLUS")
    spectra = xpjax.spectra(sources)

Within JAX's own transformations `xpjax.magnitudes`, `xpjax.fluxes` and `xpjax.sampled_spectra` are pure functions.

The names below are what most work needs; rooms hold the rest: `xpjax.xp`, `xpjax.synthetic`, `xpjax.wiggles`,
`xpjax.stellar`, `xpjax.survey`, `xpjax.catalogue`, `xpjax.plot`. Both are loaded when first used, so that importing
xpjax is quick and starts no backend.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from xpjax.core.version import __version__

ROOMS = ("catalogue", "compat", "extinction", "io", "lsdb", "plot", "stellar", "survey", "synthetic", "wiggles", "xp")
"""Rooms with a door of their own."""

_HOME = {
    "Instrument": "xpjax.xp.instrument",
    "Passband": "xpjax.synthetic.passband",
    "PassbandSet": "xpjax.synthetic.passband",
    "PhotometricSystem": "xpjax.synthetic.system",
    "Photometry": "xpjax.synthetic.magnitude",
    "Release": "xpjax.core.release",
    "SourceTable": "xpjax.xp.sources",
    "Status": "xpjax.core.status",
    "XPCoefficients": "xpjax.xp.sources",
    "XpjaxError": "xpjax.core.errors",
    "available_systems": "xpjax.synthetic.published",
    "covariance_matrix": "xpjax.xp.coefficients",
    "fetch": "xpjax.xp.download.job",
    "fit_passband": "xpjax.synthetic.fit",
    "fluxes": "xpjax.synthetic.functional",
    "ingest": "xpjax.xp.store.ingest",
    "lightcurve": "xpjax.synthetic.epochs",
    "load_correction": "xpjax.xp.correction",
    "load_instrument": "xpjax.xp.instrument",
    "load_passbands": "xpjax.synthetic.loading",
    "load_system": "xpjax.synthetic.published",
    "magnitudes": "xpjax.synthetic.functional",
    "observe": "xpjax.xp.observation",
    "open_store": "xpjax.xp.store.store",
    "passband_system": "xpjax.synthetic.projection",
    "photometry": "xpjax.wiggles.measure",
    "precision": "xpjax.core.engine",
    "read": "xpjax.xp.read.archive",
    "read_table": "xpjax.io.catalogue",
    "run_catalogue": "xpjax.catalogue.run",
    "sampled_spectra": "xpjax.xp.functional",
    "simulate_sources": "xpjax.xp.simulate",
    "spectra": "xpjax.xp.spectrum",
    "write": "xpjax.io.catalogue",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from xpjax.catalogue.run import run_catalogue as run_catalogue
    from xpjax.core.engine import precision as precision
    from xpjax.core.errors import XpjaxError as XpjaxError
    from xpjax.core.release import Release as Release
    from xpjax.core.status import Status as Status
    from xpjax.io.catalogue import read_table as read_table, write as write
    from xpjax.synthetic.epochs import lightcurve as lightcurve
    from xpjax.synthetic.fit import fit_passband as fit_passband
    from xpjax.synthetic.functional import fluxes as fluxes, magnitudes as magnitudes
    from xpjax.synthetic.loading import load_passbands as load_passbands
    from xpjax.synthetic.magnitude import Photometry as Photometry
    from xpjax.synthetic.passband import Passband as Passband, PassbandSet as PassbandSet
    from xpjax.synthetic.projection import passband_system as passband_system
    from xpjax.synthetic.published import available_systems as available_systems, load_system as load_system
    from xpjax.synthetic.system import PhotometricSystem as PhotometricSystem
    from xpjax.wiggles.measure import photometry as photometry
    from xpjax.xp.coefficients import covariance_matrix as covariance_matrix
    from xpjax.xp.correction import load_correction as load_correction
    from xpjax.xp.download.job import fetch as fetch
    from xpjax.xp.functional import sampled_spectra as sampled_spectra
    from xpjax.xp.instrument import Instrument as Instrument, load_instrument as load_instrument
    from xpjax.xp.observation import observe as observe
    from xpjax.xp.read.archive import read as read
    from xpjax.xp.simulate import simulate_sources as simulate_sources
    from xpjax.xp.sources import SourceTable as SourceTable, XPCoefficients as XPCoefficients
    from xpjax.xp.spectrum import spectra as spectra
    from xpjax.xp.store.ingest import ingest as ingest
    from xpjax.xp.store.store import open_store as open_store


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in ROOMS:
        return importlib.import_module(f"xpjax.{name}")
    raise AttributeError(f"module 'xpjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *ROOMS])
