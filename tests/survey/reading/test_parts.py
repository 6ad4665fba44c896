"""Tables read in batches give what tables read at once give."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.survey.reading.helpers import config
from xpjax.core.errors import XpjaxError
from xpjax.core.shipped import filters_folder
from xpjax.survey.observations import Observations, concatenate, make_observations
from xpjax.survey.reading.account import Account
from xpjax.survey.reading.airmass import depends_on_airmass, shift_laws, shift_samples, to_reference
from xpjax.survey.reading.config import SurveyConfig
from xpjax.survey.reading.parts import UnitPlan, name_tables, plan_units, read_batch, tell
from xpjax.survey.reading.tables import read_observations
from xpjax.synthetic.chain_file import read_chain
from xpjax.synthetic.magnitude import photometry
from xpjax.synthetic.projection import passband_system
from xpjax.xp import simulate

COLUMNS = {"star": "id", "ra": "RA", "dec": "DEC", "time": "T", "amplifier": "AMP"}
WIDE = {**COLUMNS, "magnitude": "{band}", "magnitude_error": "{band}_err", "model": "{band}_mod", "bands": ["g", "r"]}


def tables(folder: Path, n: int = 30) -> list[Path]:
    """Five tables: nights, bands that some of them lack, stars without a name, amplifiers that come late."""
    files = []
    for k, (bands, time) in enumerate((("gr", 1.0), ("g", 1.1), ("x", 1.2), ("r", 2.0), ("gr", 2.1))):
        rng = np.random.default_rng(k)
        table = pd.DataFrame({"id": np.arange(n) + 10, "RA": 150 + np.arange(n) / 60, "DEC": 2.0, "T": time})
        table.loc[n // 2 :, "id"] = -1 if k % 2 else 0
        table["RA"] += rng.normal(size=n) * 2e-5
        table["AMP"] = "a" if k < 4 else "b"
        for band in bands:
            table[[band, f"{band}_err", f"{band}_mod"]] = rng.uniform(1, 2, (n, 3))
        files.append(folder / f"e{k}.parquet")
        table.to_parquet(files[-1], index=False)
    return files


def planned(files: list[Path], chosen: SurveyConfig, split: list[slice], kind: str = "night") -> tuple[UnitPlan, Any]:
    known = name_tables(files, chosen).files
    batches = [read_batch(files[part], chosen, known=known) for part in split]
    return plan_units([tell(batch) for batch in batches], kind), batches


@pytest.mark.parametrize("split", [[slice(0, 2), slice(2, 3), slice(3, 5)], [slice(k, k + 1) for k in range(5)]])
def test_batches_name_frames_stars_and_amplifiers_as_one_reading(tmp_path: Path, split: list[slice]) -> None:
    files = tables(tmp_path)
    chosen = config(WIDE, model={"amplifiers": True, "color_order": 0})
    plan, batches = planned(files, chosen, split)
    want = read_observations(files, chosen)
    assert plan.frames.exposure.tolist() == want.observations.frames.exposure.tolist()
    assert plan.frames.band.tolist() == want.observations.frames.band.tolist()
    assert plan.amplifiers == want.amplifiers == ("a", "b")
    assert set(plan.account.lines()) == set(want.account.lines())
    stars = []
    for batch, rows, named in zip(batches, plan.rows, plan.stars, strict=True):
        star = batch.observations.star.copy()
        star[rows] = named
        stars.append(star)
    assert np.concatenate(stars).tolist() == want.observations.star.tolist()
    assert len(np.unique(want.observations.star)) < 40
    assert sum(plan.n_row) == len(want.observations)


def test_units_are_of_nights_and_bands(tmp_path: Path) -> None:
    files = tables(tmp_path)
    chosen = config(WIDE, model={"amplifiers": True, "color_order": 0})
    for kind, names in (
        ("night", ("night-1", "night-2")), ("band", ("g", "r")),
        ("night+band", ("night-1_g", "night-1_r", "night-2_r", "night-2_g")),
    ):  # fmt: skip
        plan, _ = planned(files, chosen, [slice(0, 3), slice(3, 5)], kind)
        assert plan.units == names
        assert plan.unit[plan.order].tolist() == sorted(plan.unit)
    untimed = config({k: v for k, v in WIDE.items() if k not in ("time", "amplifier")})
    assert planned(files, untimed, [slice(0, 5)])[0].units == ("no-night",)
    with pytest.raises(XpjaxError, match="no rows in any of the bands"):
        planned(files[2:3], chosen, [slice(0, 1)])


def test_accounts_are_summed_up() -> None:
    parts = [
        Account(
            10, 4, 1, ["g of a"], {"ruwe": 2}, {}, True, (2016.0, 2017.0), 1, notes=["once", "3 of a"], why_none="far"
        ),
        Account(5, 0, 0, [], {"ruwe": 1, "flags": 3}, {"teff": ("teff",)}, True, notes=["once", "4 of a", "5 of a"]),
    ]
    found = Account.joined(parts)
    assert (found.n_row, found.n_matched, found.removed) == (15, 4, {"ruwe": 3, "flags": 3})
    assert (found.notes, found.epochs) == (["once", "3 of a (and 2 more such notes)"], (2016.0, 2017.0))
    assert Account.joined([dataclasses.replace(part, n_matched=0) for part in parts]).notes[0] == "far"


@pytest.mark.slow
def test_laws_of_shifts_with_color_are_those_of_all_parts() -> None:
    """Half of the stars have no spectrum: their shifts go by the colors of the others, of all exposures."""
    chain = read_chain(filters_folder() / "minisitian" / "system.toml")
    sources = simulate.simulate_sources(120, seed=5)
    system = passband_system(chain.passbands())
    model = np.asarray(photometry(sources, system, errors=False, float64=True).magnitude)[:, 0]
    telescope = str(filters_folder() / "minisitian" / "system.toml")
    columns = {"star": "id", "magnitude": "m", "model": "M", "color": "c", "airmass": "X"}
    chosen = config(columns, passband={"chain": telescope, "sources": "xp.parquet"})
    assert depends_on_airmass(chosen)
    parts = []
    for k, air in enumerate((1.0, 1.3, 1.9)):
        mine = slice(30 * k, 30 * k + 60)
        star = np.where(np.arange(60) % 3, sources.source_id[mine], np.arange(1, 61))
        color = np.asarray(sources.columns["bp_rp"], float)[mine]
        parts.append(
            make_observations(star, *np.ones((2, 60)), model[mine], None, model[mine], color=color, exposure=f"e{k}",
                              airmass=air, band="g")
        )  # fmt: skip
    o: Observations = concatenate(parts)
    want, _, laws = to_reference(o, chosen, sources)
    samples = [shift_samples(part, chosen, sources, np.array([1.0, 1.9])) for part in parts]
    solved = shift_laws(samples)
    assert solved["airmass"] == laws["airmass"]
    found = np.concatenate([to_reference(part, chosen, sources, solved)[0].magnitude for part in parts])
    np.testing.assert_allclose(found, want.magnitude, rtol=0, atol=1e-9)
    alone = np.concatenate([to_reference(part, chosen, sources)[0].magnitude for part in parts])
    assert np.nanmax(np.abs(alone - want.magnitude)) > 1e-6
