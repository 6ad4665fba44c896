"""Columns of output tables."""

import dataclasses

import numpy as np

from xpjax.io.catalogue import read_table, write
from xpjax.survey.columns import OutputColumn, SurveyTable, origin_columns, provenance, tabulate
from xpjax.survey.observations import Origin, make_observations


def test_a_list_of_columns_makes_a_table() -> None:
    columns = [
        OutputColumn("n", lambda r: np.arange(r), "mag", "Numbers"),
        OutputColumn("absent", lambda r: None),
        OutputColumn.of("there", np.ones(3)),
    ]
    table = tabulate(columns, 3, {"a": 1})
    assert list(table.columns) == ["n", "there"]
    assert table.units == {"n": "mag"}
    assert table.descriptions == {"n": "Numbers"}
    assert table.meta == {"a": 1}


def test_tables_are_sliced_written_and_shown(tmp_path: object) -> None:
    table = SurveyTable({"x": np.arange(4.0), "name": np.array(list("abcd"))}, {"x": "pixel"}, {"x": "Place"})
    assert len(table) == 4
    assert table[table.columns["x"] > 1].columns["name"].tolist() == ["c", "d"]
    assert table.to_table()["x"].description == "Place"
    assert table.to_pandas()["name"].tolist() == ["a", "b", "c", "d"]
    assert "4 rows" in table._repr_html_()
    write(f"{tmp_path}/t.ecsv", table)
    assert read_table(f"{tmp_path}/t.ecsv")["x"].unit == "pixel"


def test_columns_of_the_input_keep_their_names_or_say_input() -> None:
    o = make_observations(np.arange(2), np.ones(2), np.ones(2), np.ones(2), None, None)
    kept = {"ra": np.zeros(2), "magnitude": np.ones(2)}
    o = dataclasses.replace(o, origin=Origin(("f",), np.zeros(2, int), np.arange(2), kept))
    columns = {column.name: column for column in origin_columns(o, ["magnitude"])}
    assert list(columns) == ["x", "y", "ra", "input_magnitude", "file", "row"]
    assert columns["ra"].unit == "deg"
    assert columns["row"].description
    assert {"version", "date"} == {*provenance()}


def test_colors_and_amplifiers_stand_beside_results() -> None:
    o = make_observations(
        np.arange(3),
        np.ones(3),
        np.ones(3),
        np.ones(3),
        None,
        None,
        color=[0.5, np.nan, 1.5],
        amplifier=["b", "a", "b"],
    )
    columns = {column.name: column for column in origin_columns(o, [], ["left", "right"])}
    assert list(columns) == ["x", "y", "color", "amplifier"]
    np.testing.assert_array_equal(np.asarray(columns["color"].values(None)), np.asarray(o.color))
    assert columns["color"].unit == "mag"
    values = columns["amplifier"].values(None)
    assert values is not None
    assert values.tolist() == ["left", "right", "left"]
    plain = make_observations(np.arange(2), np.ones(2), np.ones(2), np.ones(2), None, None)
    assert [column.name for column in origin_columns(plain, [])] == ["x", "y"]
    named = dataclasses.replace(o, origin=Origin(("f",), np.zeros(3, int), np.arange(3), {"color": np.ones(3)}))
    assert "input_color" in [column.name for column in origin_columns(named, [])]
