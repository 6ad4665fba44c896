"""Joint solutions written and read back: the same values, errors, tables and corrections."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.joint import dithered, plain_model
from xpjax.survey.joint.files import read_joint_solution, write_joint_solution
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Covariate
from xpjax.survey.observations import Observations


@pytest.fixture(scope="module")
def solved() -> tuple[Observations, JointSolution]:
    o, _ = dithered(12, 120, bins=3, outlier=0.02)
    model = plain_model(3, min_observations=4)
    seeing = Covariate("seeing", np.random.default_rng(0).normal(size=len(o)), per="all")
    model = dataclasses.replace(model, terms=(*model.terms, seeing))
    return o, solve_joint(o, model, held_out_stars=o.star % 10 == 3)


def test_what_is_written_is_read(solved: tuple[Observations, JointSolution], tmp_path: Path) -> None:
    o, found = solved
    path = tmp_path / "joint.h5"
    write_joint_solution(path, dataclasses.replace(found, meta={"who": "me"}))
    back = read_joint_solution(path)
    assert isinstance(back, JointSolution)
    assert repr(back) == repr(found)
    assert back.meta == {"who": "me"}
    assert back.summary() == found.summary()
    for table in ("parameters", "stars", "exposures"):
        ours, theirs = getattr(back, table)().columns, getattr(found, table)().columns
        assert list(ours) == list(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=f"{table} {name}")
    for name in ("residual", "used", "clipped", "flags"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
    np.testing.assert_array_equal(back.calibrated(o).columns["magnitude"], found.calibrated(o).columns["magnitude"])
    assert back.terms[:3] == found.terms[:3]
    # Corrections of other rows: the covariate's own values are not in the file.
    with pytest.raises(ValueError, match="seeing: a file of a solution does not hold"):
        back.correction(o[:9])
    terms = [dataclasses.replace(found.terms[3], values=found.terms[3].values[:9])]
    ours, theirs = (one.with_terms(*found.terms[:3], *terms).correction(o[:9]) for one in (back, found))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    some = np.eye(len(found.value))[:2]
    np.testing.assert_allclose(back.covariance(some), found.covariance(some), rtol=1e-6, atol=1e-18)
    with pytest.raises(ValueError, match="no covariances: solve it again"):
        back.covariance(stars=[(int(found.star[0]), "g")])
    write_joint_solution(path, found, covariance=False, overwrite=True)
    with pytest.raises(ValueError, match="write it with covariance=True"):
        read_joint_solution(path).covariance(some)
    with pytest.raises(FileExistsError):
        write_joint_solution(path, found)


def test_tables_of_a_solution(solved: tuple[Observations, JointSolution]) -> None:
    o, found = solved
    exposures = found.exposures()
    np.testing.assert_array_equal(exposures.columns["zero_point"], found.term("zero_point")[0])
    np.testing.assert_array_equal(exposures.columns["n_used"], np.bincount(o.frame[found.used], minlength=12))
    np.testing.assert_array_equal(exposures.columns["seeing"], np.full(12, found.term("seeing")[0]))
    assert "flat" not in exposures.columns
    table = found.parameters().to_table()
    assert table["value"].description.startswith("Value")
    assert set(table["unit"]) == {"mag", "mag/mag", "mag/unit of seeing"}
    assert exposures.descriptions["seeing"] == "Change with seeing [mag/unit of seeing]"
    assert exposures.units["seeing"] == "mag"  # as programs read it
    some = found.stars()[5:9]
    assert len(some) == 4
    assert str(some.to_table()["magnitude"].unit) == "mag"
    assert repr(found).startswith("JointSolution(34 columns of zero_point, color, flat, seeing, 96 stars")


def test_files_of_a_configuration_are_called_from_where_the_solution_lies(
    solved: tuple[Observations, JointSolution], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    term = {"kind": "transmission", "chain": "t.toml", "sources": "xp/s.h5", "correction": "standard"}
    shared = {**term, "sources": "[standards]", "chain": "../t.toml", "correction": "own.h5"}
    table = {"columns": {"star": "id"}, "standards": {"file": "all.parquet"}, "term": [{"kind": "flat"}, term, shared]}
    for name in ("here", "there/deep"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    found = dataclasses.replace(solved[1], meta={"config": json.dumps(table)})
    write_joint_solution("../there/deep/joint.h5", found)
    assert json.loads(read_joint_solution("../there/deep/joint.h5").meta["config"]) == {
        **table, "standards": {"file": "all.parquet"},
    }  # fmt: skip
    monkeypatch.chdir(tmp_path / "there")
    moved = json.loads(read_joint_solution("deep/joint.h5").meta["config"])
    assert moved["standards"] == {"file": "../here/all.parquet"}
    assert moved["term"][1] == {**term, "chain": "../here/t.toml", "sources": "../here/xp/s.h5"}
    assert moved["term"][2] == {**shared, "chain": "../t.toml", "correction": "../here/own.h5"}


def test_amplifiers_are_told_by_their_names(solved: tuple[Observations, JointSolution]) -> None:
    _, solution = solved
    block = solution.blocks[0]
    labels = ("g amplifier 0", "g amplifier 1", *block.labels[2:])
    blocks = (dataclasses.replace(block, labels=labels), *solution.blocks[1:])
    design = dataclasses.replace(solution.design, blocks=blocks)
    for names, place in ((["AMP1", "AMP2"], "g amplifier AMP2"), ([], "g amplifier 1")):
        found = dataclasses.replace(solution, design=design, meta={"amplifiers": json.dumps(names)})
        assert found.parameters().columns["place"][1] == place
