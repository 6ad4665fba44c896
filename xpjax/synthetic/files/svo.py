"""Transmission curves of the SVO Filter Profile Service (Rodrigo & Solano 2020; Rodrigo et al. 2024), by network."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, install
from xpjax.synthetic.files.curve import curve_of, passband_of
from xpjax.synthetic.files.header import entries_of
from xpjax.synthetic.files.sheet import Sheet
from xpjax.synthetic.passband import Passband, PassbandSet

SERVICE = "SVO Filter Profile Service"
NEARBY = 0.15
"""Half-width of a search by wavelength, relative: effective and mean wavelengths of a band differ by less."""


def fetch_passbands(
    *ids: str,
    label: str | None = None,
    detector: str | None = None,
    magnitude: str | None = None,
    clip: bool = False,
    normalize: bool = False,
    cache: bool = True,
) -> PassbandSet:
    """Fetch passbands from the SVO Filter Profile Service.

    Needs the network and astroquery: `pip install 'xpjax[archive]'`.

    Parameters
    ----------
    *ids : str
        Ids of filters, `CTIO/DECam.g`, or of instruments with all their filters by mean wavelength, `OAJ/JPLUS`.
    label : str, optional
        Label of the set; by default the name of the instrument, or SVO for several.
    detector, magnitude, clip, normalize
        As for `load_passbands`. The service gives Vega magnitudes for every band: magnitude="AB" for others.
    cache : bool
        Keep the replies on disk, as astroquery does.

    Returns
    -------
    PassbandSet
        Passbands called as the filters of the instrument; of several instruments as in `DECam_g`.

    Raises
    ------
    XpjaxError
        If the service does not have an id (close ones are named), or astroquery is not installed.
    ConnectionError
        If the service cannot be reached.

    Notes
    -----
    Rodrigo & Solano 2020 (XIV.0 Scientific Meeting of the SEA); Rodrigo et al. 2024 (A&A 689 A93).

    Examples
    --------
    >>> def fetch_decam():
    ...     return xpjax.synthetic.fetch_passbands("CTIO/DECam.g", "CTIO/DECam.r", magnitude="AB")
    """
    if not ids:
        raise XpjaxError("name at least one filter, such as CTIO/DECam.g, or instrument, such as OAJ/JPLUS")
    service = _Service(cache)
    wanted = list(dict.fromkeys(name for text in ids for name in service.filters(text.strip())))
    prefixes = {name.partition(".")[0] for name in wanted}
    bands = []
    for name in wanted:
        band = service.passband(name, detector=detector, magnitude=magnitude, clip=clip, normalize=normalize)
        if len(prefixes) > 1:
            band = dataclasses.replace(band, name=f"{_instrument(name)}_{band.name}")
        bands.append(band)
    return PassbandSet(label or (_instrument(wanted[0]) if len(prefixes) == 1 else "SVO"), tuple(bands))


def _instrument(name: str) -> str:
    return name.partition(".")[0].rpartition("/")[2]


class _Service:
    """Replies of the service, each index asked for once."""

    def __init__(self, cache: bool) -> None:
        try:
            from astroquery.svo_fps import SvoFps
        except ImportError as exc:
            raise XpjaxError(f"fetching passbands needs astroquery: {install('archive')}") from exc
        self.fps: Any = SvoFps
        self.cache = cache
        self.indices: dict[str, dict[str, dict[str, Any]]] = {}

    def ask(self, query: Callable[..., Any], *arguments: Any) -> Any:
        """The table in reply to a query, None where there is nothing. Raises ConnectionError."""
        try:
            return query(*arguments, cache=self.cache)
        except IndexError:  # astroquery's word for a reply without a table
            return None
        except Exception as exc:  # of the network, the service or its XML; astroquery gives no common class
            raise ConnectionError(
                f"the {SERVICE} gave no answer ({type(exc).__name__}: {exc}); try again later, or download the "
                "VOTable from svo2.cab.inta-csic.es/theory/fps and read the file"
            ) from exc

    def index(self, facility: str) -> dict[str, dict[str, Any]]:
        """Filter id -> parameters of a facility; empty where the service has none of this name."""
        if facility not in self.indices:
            self.indices[facility] = _by_id(self.ask(self.fps.get_filter_list, facility))
        return self.indices[facility]

    def filters(self, text: str) -> list[str]:
        """The filter ids that are meant by an id or by an instrument. Raises ValueError."""
        facility, slash, rest = text.partition("/")
        if not (facility and slash and rest):
            raise XpjaxError(f"{text!r} is no id of the {SERVICE}; write FACILITY/INSTRUMENT.FILTER, as CTIO/DECam.g")
        index = self.index(facility)
        if "." in rest:
            # Generic filters are in no facility's index, but have curves.
            if index and text not in index:
                raise XpjaxError(_unknown(text, list(index)))
            return [text]
        found = [name for name in index if name.startswith(f"{text}.")]
        if not found:
            raise XpjaxError(_unknown(text, sorted({name.partition(".")[0] for name in index})))
        return sorted(found, key=lambda name: float(index[name].get("WavelengthMean") or np.inf))

    def passband(self, name: str, *, detector: str | None, magnitude: str | None, **options: bool) -> Passband:
        """One passband; the options of `read_passbands`."""
        table = self.ask(self.fps.get_transmission_data, name)
        if table is None or not len(table):
            raise XpjaxError(
                f"the {SERVICE} has no curve of {name!r}; look its id up at svo2.cab.inta-csic.es/theory/fps"
            )
        names = ["Wavelength", "Transmission"]
        columns: list[np.ndarray] = [np.ma.filled(np.ma.asarray(table[key], float), np.nan) for key in names]
        units = [str(table[key].unit or "").strip() for key in names]
        params = self.index(name.partition("/")[0]).get(name) or self._search(name, table)
        rows = [f"row {n + 1}" for n in range(len(table))]
        entries = entries_of({**params, "filterID": name})
        curve = curve_of(Sheet(Path(name), "VOTable", names, units, columns, rows, entries), None, detector, magnitude)
        return passband_of(curve, **options)

    def _search(self, name: str, table: Any) -> dict[str, Any]:
        """The parameters of a filter in the index of all at about its wavelength; empty where it is not there."""
        from astropy.units import Quantity

        x, t = (np.asarray(np.ma.filled(table[key], 0.0), float) for key in ("Wavelength", "Transmission"))
        mean = float(np.trapezoid(x * t, x) / np.trapezoid(t, x))
        limits = (Quantity(mean * (1 + side * NEARBY), str(table["Wavelength"].unit or "Angstrom")) for side in (-1, 1))
        return _by_id(self.ask(self.fps.get_filter_index, *limits)).get(name, {})


def _by_id(table: Any) -> dict[str, dict[str, Any]]:
    """Filter id -> the row of an index."""
    return {} if table is None else {str(row["filterID"]): dict(zip(row.colnames, row)) for row in table}


def _unknown(text: str, known: list[str]) -> str:
    close = difflib.get_close_matches(text, known, n=4, cutoff=0.4) or known[:6]
    hint = f"did you mean {', '.join(close)}?" if close else "it knows no such facility; ids are case-sensitive"
    return f"the {SERVICE} has no {text!r}; {hint}"
