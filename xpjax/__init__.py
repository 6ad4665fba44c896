"""xpjax: Gaia XP spectra on CPUs and GPUs.

    import xpjax
    sources = xpjax.read("XP_CONTINUOUS.csv")
    stars = xpjax.photometry(sources, "JPLUS")
    spectra = xpjax.spectra(sources)

The names below are all that is public at the top; they are loaded when first used, so that importing xpjax is quick
and starts no backend.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

_HOME = {
    "read": "xpjax.io.archive",
    "write": "xpjax.io.catalogue",
    "ingest": "xpjax.io.bulk",
    "open_store": "xpjax.io.store",
    "run_catalogue": "xpjax.pipeline",
    "photometry": "xpjax.synthetic.magnitude",
    "spectra": "xpjax.xp.spectrum",
    "system": "xpjax.synthetic.system",
    "available_systems": "xpjax.synthetic.system",
    "passbands": "xpjax.synthetic.passband",
    "passband_system": "xpjax.synthetic.passband",
    "fit_passband": "xpjax.synthetic.fit",
    "instrument": "xpjax.xp.instrument",
    "covariance_matrix": "xpjax.xp.coefficients",
    "XPCoefficients": "xpjax.records",
    "SourceTable": "xpjax.records",
    "Catalogue": "xpjax.records",
    "Passband": "xpjax.records",
    "PassbandSet": "xpjax.records",
    "Release": "xpjax.records",
    "Status": "xpjax.records",
    "PhotometricSystem": "xpjax.synthetic.system",
    "Instrument": "xpjax.xp.instrument",
    "Photometry": "xpjax.synthetic.magnitude",
    "Spectra": "xpjax.xp.spectrum",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from xpjax.io.archive import read as read
    from xpjax.io.bulk import ingest as ingest
    from xpjax.io.catalogue import write as write
    from xpjax.io.store import open_store as open_store
    from xpjax.pipeline import run_catalogue as run_catalogue
    from xpjax.records import Catalogue as Catalogue
    from xpjax.records import Passband as Passband
    from xpjax.records import PassbandSet as PassbandSet
    from xpjax.records import Release as Release
    from xpjax.records import SourceTable as SourceTable
    from xpjax.records import Status as Status
    from xpjax.records import XPCoefficients as XPCoefficients
    from xpjax.synthetic.fit import fit_passband as fit_passband
    from xpjax.synthetic.magnitude import Photometry as Photometry
    from xpjax.synthetic.magnitude import photometry as photometry
    from xpjax.synthetic.passband import passband_system as passband_system
    from xpjax.synthetic.passband import passbands as passbands
    from xpjax.synthetic.system import PhotometricSystem as PhotometricSystem
    from xpjax.synthetic.system import available_systems as available_systems
    from xpjax.synthetic.system import system as system
    from xpjax.xp.coefficients import covariance_matrix as covariance_matrix
    from xpjax.xp.instrument import Instrument as Instrument
    from xpjax.xp.instrument import instrument as instrument
    from xpjax.xp.spectrum import Spectra as Spectra
    from xpjax.xp.spectrum import spectra as spectra


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'xpjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
