"""Sums by star, of parts and together: against pandas."""

import numpy as np
import pandas as pd
import pytest

from xpjax.survey.exposures.sums import StarSums, by_star, together

LABELS = np.array([["g", "1"], ["r", "1"], ["g", "1"]])
"""The last is the first again."""


def rows(rng: np.random.Generator, n: int = 500, text: bool = False) -> pd.DataFrame:
    star = rng.integers(0, 40, n)
    return pd.DataFrame(
        {"star": [f"s{k}" for k in star] if text else star, "kind": rng.integers(0, 3, n), "value": rng.normal(size=n)}
    )


def sums(table: pd.DataFrame) -> StarSums:
    star, kind = (table[name].to_numpy() for name in ("star", "kind"))
    star = star.astype(str) if star.dtype == object else star
    return by_star(star, kind, LABELS, value=table["value"].to_numpy(), number=np.ones(len(table)))


@pytest.mark.parametrize("text", [False, True])
def test_parts_together_are_the_whole_as_pandas_sums_it(rng: np.random.Generator, text: bool) -> None:
    table = rows(rng, text=text)
    parts = [sums(table[:200]), sums(table[200:230]), sums(table[:0]), sums(table[230:])]
    whole, places = together([StarSums.of(part.arrays()) for part in parts])
    want = table.assign(band=LABELS[table["kind"], 0]).groupby(["star", "band"])["value"].agg(["sum", "size"])
    assert list(zip(whole.star.tolist(), whole.labels[whole.kind, 0].tolist(), strict=True)) == list(want.index)
    np.testing.assert_allclose(whole.sums["value"], want["sum"], rtol=0, atol=1e-12)
    assert whole.sums["number"].tolist() == want["size"].tolist()
    for part, place in zip(parts, places, strict=True):
        assert whole.star[place].tolist() == part.star.tolist()
        assert whole.places(part).tolist() == place.tolist()


def test_rows_know_their_sums(rng: np.random.Generator) -> None:
    table = rows(rng)
    found = sums(table)
    assert found.star[found.code].tolist() == table["star"].tolist()
    assert found.labels[found.kind[found.code], 0].tolist() == LABELS[table["kind"], 0].tolist()
    assert not len(found.without_code().code)
