"""`xpjax labels grid`: from a library to a file, a description and a figure."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import files, xp
from tests.stellar.libraries.test_files import write_ferre, write_nextgen
from tests.stellar.test_grid import HOLES, NODES
from xpjax.cli.labels import build
from xpjax.plot import plot_grid
from xpjax.stellar.grid_file import read_grid
from xpjax.stellar.libraries import FORMATS


@pytest.fixture
def models(tmp_path: Path) -> Path:
    rows = np.array([row for row in NODES.tolist() if tuple(row) not in HOLES])
    return write_nextgen(tmp_path / "models.npz", rows)


OWN = ("--resolution", "own", "--no-fill")


def test_build_tells_what_is_missing(models: Path, tmp_path: Path) -> None:
    call = ("labels", "grid", "build", "nextgen", models, "-o", tmp_path / "g.h5", *OWN)
    result = xp(*call)
    assert result.exit_code == 0, result.stderr
    assert "16 spectra on 18 nodes (3 teff x 3 logg x 2 mh)" in result.stderr
    assert "2 holes (11.1%), teff, logg, mh:\n  4000  4.5  0\n  4250  4  -1\n" in result.stderr
    assert read_grid(tmp_path / "g.h5").shape == (3, 3, 2)
    assert xp(*call).exit_code == 2
    result = xp(*call[:-3], "-o", tmp_path / "g.h5", *OWN[:2], "--overwrite")
    assert "18 spectra on 18 nodes (3 teff x 3 logg x 2 mh); no holes\n2 of the spectra were inter" in result.stderr
    assert not read_grid(tmp_path / "g.h5").holes.any()
    assert xp(*call[:-3], *OWN[:2], "-o", tmp_path / "s.h5", "--compact", "1e-3").exit_code == 0
    assert "components leave out" in xp("labels", "grid", "info", tmp_path / "s.h5").stdout
    (tmp_path / "s.h5").unlink()
    result = xp(*call, "--overwrite", "--limits", "teff=4000::500", "--limits", "logg=4:4.9")
    assert "4 nodes" not in result.stderr
    assert "(2 teff x 2 logg x 2 mh)" in result.stderr
    assert files(tmp_path) == ["g.h5", "models.npz"]


def test_build_tells_the_labels_found(tmp_path: Path) -> None:
    """A pattern that reads other numbers than meant is seen at once: how many values there are, and their range."""
    for teff, mh in ((5000, "-0.5"), (6000, "-0.5"), (5000, "+0.0"), (6000, "+0.0")):
        text = "\n".join(f"{x} {x + teff}" for x in range(3400, 10200, 10))
        (tmp_path / f"t{teff}feh{mh}.txt").write_text(f"# wavelength in vacuum [Angstrom]\n{text}")
    call = ("labels", "grid", "build", "files", tmp_path, "-o", tmp_path / "g.h5", *OWN, "--overwrite", "--pattern")
    result = xp(*call, "t{teff}*{mh}.txt")
    assert "labels found: 2 teff 5000..6000, 2 mh -0.5..0\n" in result.stderr, result.stderr
    assert read_grid(tmp_path / "g.h5").nodes[1].tolist() == [-0.5, 0]
    result = xp(*call, "t{teff}*{mh}.*", "--limits", "mh=-1:-0.1")
    assert "labels found: 2 teff 5000..6000, 1 mh -0.5\n" in result.stderr
    result = xp(*call, "t{teff}*.txt")
    assert result.exit_code == 2
    assert "t5000feh+0.0.txt and " in result.stderr
    assert "t5000feh-0.5.txt have the same labels, teff 5000;" in result.stderr


def test_contradictions_name_the_options(tmp_path: Path) -> None:
    write_ferre(tmp_path / "g.dat", more="VACUUM = 0")
    result = xp(
        "labels", "grid", "build", "ferre", tmp_path / "g.dat", "-o", tmp_path / "g.h5", *OWN, "--medium", "vacuum"
    )
    assert result.exit_code == 2
    assert "g.dat: VACUUM = 0 contradicts --medium vacuum" in result.stderr


def test_info(models: Path, tmp_path: Path) -> None:
    xp("labels", "grid", "build", "nextgen", models, "-o", tmp_path / "g.h5", *OWN[:2])
    result = xp("labels", "grid", "info", tmp_path / "g.h5")
    assert result.exit_code == 0
    for text in ("NextGen LTE, models.npz", "1 files, SHA-256", "as in the library", "log330, 330 on 360..990 nm"):
        assert text in result.stdout
    assert "18 spectra on 18 nodes (3 teff x 3 logg x 2 mh); no holes" in result.stdout
    assert "2 of the spectra were interpolated between models and next to them" in result.stdout
    assert "left-out models: median, 90 % [% of flux]" in result.stdout
    xp("labels", "grid", "build", "nextgen", models, "-o", tmp_path / "h.h5", *OWN)
    result = xp("labels", "grid", "info", tmp_path / "h.h5", "--holes")
    assert "mh [dex]    2      -1 (11%) 0 (11%)" in result.stdout
    assert "  4250  4  -1" in result.stdout


def test_shipped_grids_go_by_their_names() -> None:
    result = xp("labels", "grid", "info", "ck04")
    assert result.exit_code == 0
    assert "Castelli & Kurucz 2004, in IAU Symp. 210" in result.stdout
    result = xp("labels", "grid", "info", "ck05")
    assert result.exit_code == 2
    assert "no grid 'ck05': there is no such file, and by name there are ck04" in result.stderr


def test_plot(models: Path, tmp_path: Path) -> None:
    xp("labels", "grid", "build", "nextgen", models, "-o", tmp_path / "g.h5", *OWN)
    result = xp("labels", "grid", "plot", tmp_path / "g.h5", "-o", tmp_path / "g.png")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")
    assert xp("labels", "grid", "plot", tmp_path / "g.h5", "-o", tmp_path / "g.png").exit_code == 2
    assert xp("labels", "grid", "plot", models, "-o", tmp_path / "h.png").exit_code == 2
    grid = read_grid(tmp_path / "g.h5")
    figure = plot_grid(grid)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:4] == ["along teff", "along logg", "along mh", "16 spectra, 2 holes"]
    # Through 4250 K, log g 4.5, [M/H] -1, the node nearest the middle: the hole at log g 4 is left out.
    assert [len(axes.lines) for axes in figure.axes[:3]] == [3, 2, 2]
    (image,) = figure.axes[3].get_images()
    assert np.allclose(np.asarray(image.get_array()), (~grid.holes).mean(axis=2).T)


def test_ferre_options(tmp_path: Path) -> None:
    write_ferre(tmp_path / "g.dat", more="")
    call = ("labels", "grid", "build", "ferre", tmp_path / "g.dat", "-o", tmp_path / "g.h5", *OWN)
    result = xp(*call)
    assert result.exit_code == 2
    assert "pass --medium vacuum or --medium air" in result.stderr
    assert xp(*call, "--medium", "air").exit_code == 0
    assert read_grid(tmp_path / "g.h5").names == ("teff", "logg", "mh")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--limits", "teff"), "--limits 'teff': expected LABEL=LOW:HIGH"),
        (("--limits", "teff=a:b"), "--limits 'teff=a:b': expected LABEL=LOW:HIGH"),
        (("--limits", "alpha=0:1"), "no label alpha to limit; the library has teff, logg, mh"),
        (("--resolution", "XP"), "no resolution 'XP'"),
        (("--resolution", "104"), "at 360 nm the library has"),
        (("--keyword", "teff"), "--keyword: expected LABEL=KEY"),
        (("--pattern", "*"), "format nextgen: got an unexpected keyword argument 'pattern'"),
    ],
)
def test_refusals(models: Path, tmp_path: Path, extra: tuple[str, ...], message: str) -> None:
    result = xp("labels", "grid", "build", "nextgen", models, "-o", tmp_path / "g.h5", *OWN, *extra)
    assert result.exit_code == 2
    assert message in result.stderr
    assert files(tmp_path) == ["models.npz"]


def test_the_formats_are_the_readers() -> None:
    (choice,) = [p.type for p in build.params if p.name == "format"]
    assert list(choice.choices) == list(FORMATS)


def test_residuals_take_a_grid_by_its_name(tmp_path: Path) -> None:
    """The name is accepted, and what is wrong beside it is told; no such grid is refused."""
    (tmp_path / "a.h5").write_bytes(b"")
    call = (
        "wiggles",
        "residuals",
        tmp_path / "a.h5",
        "--features",
        tmp_path / "a.h5",
        "-o",
        tmp_path / "r.h5",
        "--grid",
    )
    result = xp(*call, "ck04")
    assert (result.exit_code, "Give --fits with --grid" in result.stderr) == (2, True), result.stderr
    assert "no grid 'ck05': there is no such file" in xp(*call, "ck05").stderr
