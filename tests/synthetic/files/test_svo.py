"""Curves of the SVO Filter Profile Service, from made replies in its layout; no network."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.table import Table

from tests.oracles import worst
from tests.synthetic.files.test_passband_files import SVO, TRANSMISSION, WAVELENGTH, svo
from xpjax.synthetic.files.passband_files import read_passbands
from xpjax.synthetic.files.svo import fetch_passbands

FILTERS = {
    "CTIO/DECam.r": (640.0, 1, "Vega", 3100.5),
    "CTIO/DECam.g": (480.0, 1, "Vega", 3900.25),
    "CTIO/ANDICAM.J": (1250.0, 0, "Vega", 1600.0),
    "SLOAN/SDSS.g": (475.0, 1, "Vega", 3950.0),
    "Generic/Made.B": (440.0, 0, "Vega", 4000.0),
}


def index_table(names: list[str]) -> Table:
    """What get_filter_list and get_filter_index give: text as objects, numbers masked where there are none."""
    columns: dict[str, list[Any]] = {
        "filterID": names,
        "DetectorType": [str(FILTERS[n][1]) for n in names],
        "Description": [f"made {n}" for n in names],
        "ProfileReference": ["http://example.org" for _ in names],
        "Comments": ["" for _ in names],
    }
    table = Table({key: np.array(values, object) for key, values in columns.items()}, masked=True)
    table["WavelengthMean"] = np.ma.array([10 * FILTERS[n][0] for n in names], dtype=np.float32)
    table["WavelengthMean"].unit = units.AA
    table["WavelengthPivot"] = np.ma.array(np.zeros(len(names), np.float32), mask=True)
    table["MagSys"] = np.array([FILTERS[n][2] for n in names], object)
    table["ZeroPoint"] = np.ma.array([FILTERS[n][3] for n in names], dtype=np.float32)
    table["ZeroPointUnit"] = np.array(["Jy" for _ in names], object)
    table["Mag0"] = np.ma.array(np.zeros(len(names), np.float32))
    return table


def curve(name: str) -> tuple[np.ndarray, np.ndarray]:
    return WAVELENGTH - 450 + FILTERS[name][0], TRANSMISSION


class Recorded:
    """astroquery's SvoFps, answering from the table above and counting what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.error: Exception | None = None

    def _note(self, *query: Any, cache: bool) -> None:
        self.asked.append((*query, cache))
        if self.error is not None:
            raise self.error

    def get_filter_list(self, facility: str, *, instrument: str | None = None, cache: bool = True) -> Table:
        self._note("list", facility, cache=cache)
        names = [n for n in FILTERS if n.startswith(f"{facility}/") and facility != "Generic"]
        if not names:
            raise IndexError("No filter found for requested Facilty (and Instrument)")
        return index_table(names)

    def get_filter_index(self, low: Any, high: Any, cache: bool = True) -> Table:
        self._note("index", cache=cache)
        limits = [x.to_value("nm") for x in (low, high)]
        return index_table([n for n, row in FILTERS.items() if limits[0] <= row[0] <= limits[1]])

    def get_transmission_data(self, name: str, cache: bool = True) -> Table:
        self._note("curve", name, cache=cache)
        if name not in FILTERS:
            raise IndexError("No filter found for requested Filter ID")
        x, t = curve(name)
        return Table({"Wavelength": (10 * x).astype(np.float32) * units.AA, "Transmission": t.astype(np.float32)})


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded, module = Recorded(), ModuleType("astroquery.svo_fps")
    module.SvoFps = recorded  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "astroquery", ModuleType("astroquery"))
    monkeypatch.setitem(sys.modules, "astroquery.svo_fps", module)
    return recorded


def test_one_filter(service: Recorded, tmp_path: Path) -> None:
    found = fetch_passbands("CTIO/DECam.g")
    band = found["g"]
    assert (found.label, band.detector, band.magnitude) == ("DECam", "photon", "Vega")
    assert worst(band.wavelength, curve("CTIO/DECam.g")[0]) < 1e-6
    assert worst(band.transmission, TRANSMISSION) < 1e-6
    assert band.meta["filter_id"] == "CTIO/DECam.g"
    path = tmp_path / "g.xml"
    rows = "\n".join(f"<TR><TD>{10 * x:.1f}</TD><TD>{t!r}</TD></TR>" for x, t in zip(band.wavelength, TRANSMISSION))
    rows = rows.replace("np.float64(", "").replace(")", "")
    head = svo(filterID="CTIO/DECam.g", ZeroPoint=3900.25).split("<PARAM", 1)[1].split("<FIELD")[0]
    path.write_text(SVO.format(params="<PARAM" + head, rows=rows))
    assert band.zero_point == pytest.approx(read_passbands(path)["g"].zero_point, abs=1e-6)


def test_tables_without_a_unit_and_with_gaps(service: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    table = service.get_transmission_data("CTIO/DECam.g")
    table["Wavelength"].unit = ""
    monkeypatch.setattr(service, "get_transmission_data", lambda name, cache: table)
    assert worst(fetch_passbands("CTIO/DECam.g")["g"].wavelength, curve("CTIO/DECam.g")[0]) < 1e-6
    gaps = Table(table, masked=True)
    gaps["Transmission"].mask[2] = True
    monkeypatch.setattr(service, "get_transmission_data", lambda name, cache: gaps)
    with pytest.raises(ValueError, match=r"CTIO/DECam\.g: row 3: the transmission is nan"):
        fetch_passbands("CTIO/DECam.g")


def test_all_of_an_instrument_asks_for_its_index_once(service: Recorded) -> None:
    found = fetch_passbands("CTIO/DECam", "CTIO/DECam.r", cache=False)
    assert found.names == ("g", "r"), "by wavelength, each once"
    assert service.asked == [
        ("list", "CTIO", False),
        ("curve", "CTIO/DECam.g", False),
        ("curve", "CTIO/DECam.r", False),
    ]


def test_several_instruments_and_options(service: Recorded) -> None:
    found = fetch_passbands("CTIO/DECam.g", "SLOAN/SDSS.g", "CTIO/ANDICAM.J")
    assert (found.label, found.names) == ("SVO", ("DECam_g", "SDSS_g", "ANDICAM_J"))
    assert [band.detector for band in found] == ["photon", "photon", "energy"]
    found = fetch_passbands("CTIO/DECam.g", label="mine", magnitude="AB", detector="energy", normalize=True)
    band = found["g"]
    assert (found.label, band.magnitude, band.zero_point, band.detector) == ("mine", "AB", None, "energy")
    assert band.transmission.max() == 1


def test_a_filter_outside_its_facilitys_index_is_searched_by_wavelength(service: Recorded) -> None:
    band = fetch_passbands("Generic/Made.B")["B"]
    assert (band.detector, band.magnitude, band.meta["zero_point_jy"]) == ("energy", "Vega", 4000.0)
    assert [asked[0] for asked in service.asked] == ["list", "curve", "index"]


def test_ids_that_the_service_does_not_have(service: Recorded) -> None:
    for ids, message in (
        ((), "name at least one filter"),
        (("g",), "'g' is no id.*FACILITY/INSTRUMENT.FILTER"),
        (("CTIO/DECam.k",), "has no 'CTIO/DECam.k'; did you mean CTIO/DECam"),
        (("CTIO/DECcam",), r"has no 'CTIO/DECcam'; did you mean CTIO/DECam"),
        (("ctio/DECam",), "knows no such facility; ids are case-sensitive"),
        (("ctio/DECam.g",), "no curve of 'ctio/DECam.g'"),
    ):
        with pytest.raises(ValueError, match=message):
            fetch_passbands(*ids)


def test_no_answer(service: Recorded) -> None:
    service.error = TimeoutError("timed out")
    with pytest.raises(ConnectionError, match=r"gave no answer \(TimeoutError: timed out\); try again later"):
        fetch_passbands("CTIO/DECam.g")


def test_without_astroquery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "astroquery.svo_fps", None)
    with pytest.raises(ValueError, match=r"pip install 'xpjax\[archive\]'"):
        fetch_passbands("CTIO/DECam.g")


def test_through_astroquery_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own parsing of the service's XML; only the network is left out."""
    home = pytest.importorskip("astroquery.svo_fps")
    empty = '<?xml version="1.0"?><VOTABLE version="1.1"><INFO name="QUERY_STATUS" value="ERROR"/></VOTABLE>'
    fields = {"filterID": "char", "DetectorType": "char", "MagSys": "char", "ZeroPointUnit": "char"}
    fields |= {"ZeroPoint": "float", "WavelengthMean": "float", "Mag0": "float"}
    cells = ["Made/CAM1.B", "0", "Vega", "Jy", "4000.5", "4500", "0"]
    columns = "".join(
        f'<FIELD name="{k}" datatype="{v}"{" arraysize=" + chr(34) + "*" + chr(34) if v == "char" else ""}/>'
        for k, v in fields.items()
    )
    row = "".join(f"<TD>{cell}</TD>" for cell in cells)
    index = (
        f'<?xml version="1.0"?><VOTABLE version="1.1"><RESOURCE type="results"><TABLE>{columns}<DATA><TABLEDATA>'
        f"<TR>{row}</TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
    )

    def reply(method: str, url: str, params: dict[str, Any], timeout: Any = None, cache: Any = None) -> Any:
        known = {"Made": index, "Made/CAM1.B": svo(DetectorType=None)}
        content = known.get(str(params.get("Facility") or params.get("ID")), empty)
        return SimpleNamespace(content=content.encode(), raise_for_status=lambda: None)

    monkeypatch.setattr(home.SvoFps, "_request", reply)
    band = fetch_passbands("Made/CAM1")["B"]
    assert (band.detector, band.magnitude, band.meta["zero_point_jy"]) == ("energy", "Vega", 4000.5)
    assert worst(band.wavelength, WAVELENGTH) < 1e-6
    with pytest.raises(ValueError, match="no such facility"):
        fetch_passbands("Other/CAM")
    with pytest.raises(ValueError, match="no curve"):
        fetch_passbands("Other/CAM.x")

    def refuse(*arguments: Any, **options: Any) -> None:
        import requests

        raise requests.ConnectionError("Name or service not known")

    monkeypatch.setattr(home.SvoFps, "_request", refuse)
    with pytest.raises(ConnectionError, match="gave no answer"):
        fetch_passbands("Made/CAM1.B")
