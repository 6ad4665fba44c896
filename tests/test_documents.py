"""Documentation and README: names, commands, links and files are there, figures are the stored ones, the tour runs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shlex
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import xpjax
from tests.test_house import ROOMS
from xpjax.cli import main

ROOT = Path(xpjax.__file__).parents[1]
DOCS = ROOT / "docs"
MADE = ("reference", "tutorials")
"""Folders of docs that the site writes when it is built."""
SITE = sorted(page for page in DOCS.rglob("*.md") if page.relative_to(DOCS).parts[0] not in MADE)
PAGES = [page for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *SITE) if page.name != "architecture.md"]
"""The page on architecture names modules, for those who change them."""


def resolved(dotted: str) -> bool:
    """Whether a dotted name that begins with xpjax is a door, a public name, or an attribute of one."""
    thing, parts = xpjax, dotted.split(".")[1:]
    for k, part in enumerate(parts):
        door = getattr(thing, "__all__", None)
        inside = ".".join(["xpjax", *parts[: k + 1]])
        try:
            is_room = hasattr(importlib.import_module(inside), "__all__")
        except ImportError:
            is_room = False
        if door is not None and part not in door and not is_room:
            return False
        if not hasattr(thing, part) and not is_room:
            return False
        thing = importlib.import_module(inside) if is_room else getattr(thing, part)
    return True


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "notebooks").glob("*.py"))], ids=lambda page: page.name)
def test_names_are_public(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"\bxpjax(?:\.[A-Za-z_]\w*)+", text)) - {"xpjax.style", "xpjax.readthedocs", "xpjax.toml"}
    for module, names in re.findall(r"^\s*from (xpjax[\w.]*) import ([\w, ]+)", text, re.MULTILINE):
        named |= {f"{module}.{name.split()[0]}" for name in names.split(",") if name.split()}
    wrong = sorted(name for name in named if not resolved(name))
    assert not wrong, wrong


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words name, and what follows."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^    (?:pip install .*&& )?(xpjax .*)$", text, re.MULTILINE)
    lines += re.findall(r"`(xpjax [a-z][^`]*)`", re.sub(r"\s*\n\s*", " ", text))
    for line in lines:
        words = shlex.split(line.partition("  #")[0].replace("'", ""))[1:]
        command, rest = command_of([word for word in words if word != "|"])
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        if isinstance(command, click.Group):
            assert not rest or rest[0].startswith(("-", "...", "|")), f"no command: {line}"
        said = [word.partition("=")[0].rstrip(",") for word in rest if re.match(r"--?[a-z]", word)]
        unknown = [word for word in said if word not in {*options, "--help", "-h", "--version"}]
        assert not unknown, f"{line}: no option {unknown}"


def test_the_architecture_names_modules_that_exist() -> None:
    """Of the paragraphs on rooms and walks; `say` is a function."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    part = text[text.index("## Rooms") : text.index("## Records")]
    package = ROOT / "xpjax"
    known = {path.stem for path in package.rglob("*.py")} | {path.name for path in package.rglob("*") if path.is_dir()}
    named = {word for words in re.findall(r"`([a-z_/]+)`", part) for word in words.split("/")} - {"say"}
    assert len(named) > 60
    assert not named - known, named - known


def test_wrong_names_are_found() -> None:
    assert resolved("xpjax.photometry")
    assert resolved("xpjax.synthetic.Photometry.catalogue")
    assert not resolved("xpjax.synthetic.magnitude")
    assert not resolved("xpjax.nothing")


@pytest.mark.parametrize("page", SITE, ids=lambda page: page.name)
def test_a_page_begins_with_what_its_reader_can_do(page: Path) -> None:
    text = re.sub(r"^!\[.*\n", "", page.read_text(), flags=re.MULTILINE)
    assert re.match(r"# .+\n+(After (this page|these pages|reading this site) you|With this page you)", text), text[
        :200
    ]


@pytest.mark.parametrize("page", [ROOT / "README.md", *SITE], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", page.read_text())
    local = [target for target in targets if not re.match(r"https?:", target)]
    made = [(DOCS / folder).resolve() for folder in MADE]
    missing = [
        target
        for target in local
        if not (there := (page.parent / target).resolve()).exists() and not any(f in there.parents for f in made)
    ]
    assert not missing, missing


def test_the_reference_has_every_public_name_once() -> None:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "site" / "reference.py")
    assert spec
    assert spec.loader
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    shown = re.findall(r"^   (xpjax\.[\w.]+)$", "\n".join(reference.pages().values()), re.MULTILINE)
    assert len(shown) == len(set(shown))
    things = [id(getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2])) for name in shown]
    for room in ("", *(room for room in ROOMS if room != "cli")):
        door = importlib.import_module(f"xpjax.{room}".rstrip("."))
        absent = [one for one in door.__all__ if not one.startswith("_") and id(getattr(door, one)) not in things]
        assert not absent, f"{room}: {absent}"


# --- figures ----------------------------------------------------------------------------------------------------------

COMPACT, STELLAR = "cpu_compact.json", "cpu_stellar.json"
RATE, README, CORRECTION = "sources_per_second", "README.md", "docs/guide/correction.md"
GAIAXPY, RELY = "docs/moving-from-gaiaxpy.md", "docs/guide/rely.md"
BARE, ERR = "12 magnitudes, no errors", "12 magnitudes, full-correlation errors"
SKY = "errors from compact covariances, from the disk"
JOINT, FILES = "46.5 million observations, 6,600 columns", "20,000k sources, 12 magnitudes, no errors"
INGEST, PAIRS = "csv.gz, correlations compact, simdjson", "pairs, left out"
FIGURES = [
    (README, COMPACT, "photometry", BARE, "| 12 magnitudes and fluxes | {} |", [RATE], 3),
    (README, COMPACT, "photometry", BARE, "3,930 | {} | flux", ["gaiaxpy generate"], 3),
    (README, COMPACT, "photometry", ERR, "correlations | {} |", [RATE], 3),
    (README, COMPACT, "photometry", ERR, "| {} | flux error", ["gaiaxpy generate"], 3),
    (README, COMPACT, "photometry", "gaiaxpy generate, DataFrame", "| {} |", [RATE], 3),
    (README, COMPACT, "spectra", "343 fluxes, no errors", "| 343-sample spectra | {} |", [RATE], 3),
    (README, COMPACT, "spectra", "343 fluxes, no errors", "| {} | flux", ["gaiaxpy calibrate"], 3),
    (README, COMPACT, "spectra", "343 fluxes, full-correlation errors", "correlations | {} |", [RATE], 3),
    (README, COMPACT, "spectra", "343 fluxes, full-correlation errors", "| {} | flux e", ["gaiaxpy calibrate"], 3),
    (README, COMPACT, "spectra", "gaiaxpy calibrate, DataFrame", "| {} |", [RATE], 3),
    (README, COMPACT, "ingest", INGEST, "| {} sources/s,", [RATE], 3),
    (README, COMPACT, "ingest", INGEST, "sources/s, {} times the time of unpacking", ["igzip's time"], 2),
    (README, STELLAR, "stellar", "fit, diagonal errors, two starts", "noise alone | {} sources/s", [RATE], 3),
    (README, STELLAR, "stellar", "labels of sources, ck04", "common errors | {} sources/s", [RATE], 3),
    (README, "cpu_catalogue.json", "catalogue", SKY, "| {} minutes |", ["all sky [min]"], 3),
    *(
        (README, COMPACT, stage, case, around, keys, 3)
        for stage, case, around, keys in (
            ("photometry", "12 magnitudes, errors of compact*", "compact covariances | {} | 3,930", [RATE]),
            ("photometry", "12 magnitudes, errors of compact*", "3,930 | {} | flux error: 2e-4", ["gaiaxpy generate"]),
            ("spectra", "343 fluxes, errors of compact*", "compact covariances | {} | 3,070", [RATE]),
            ("spectra", "343 fluxes, errors of compact*", "3,070 | {} | flux error: 2e-4", ["gaiaxpy calibrate"]),
        )
    ),
    (README, "cpu_catalogue.json", "catalogue", FILES, "| {} sources/s in {} GB |", [RATE, "peak_bytes/1e9"], 3),
    (README, "cpu_joint.json", "joint", JOINT, "{} million observations", ["n/1e6"], 3),
    (README, "cpu_joint.json", "joint", JOINT, "| {} s, {} GB |", ["seconds", "peak_bytes/1e9"], 3),
    (README, "cpu_gaiaxpy.json", "gaiaxpy", "generate JPLUS, DataFrame", "| {} times GaiaXPy |", ["gaiaxpy"], 2),
    (README, "cpu_linear.json", "linear", PAIRS, "falls from {} to", ["as they stand"], 3),
    (README, "cpu_linear.json", "linear", PAIRS, "to {} %", ["error"], 2),
    (README, "cpu_linear.json", "linear", PAIRS, "scatter by {} mmag", ["JPLUS mmag"], 2),
    (README, "cpu_linear.json", "linear", PAIRS, "instead of {} (", ["JPLUS mmag before"], 3),
    (CORRECTION, "cpu_linear.json", "linear", PAIRS, "resolution | {} ->", ["as they stand"], 3),
    (CORRECTION, "cpu_linear.json", "linear", PAIRS, "-> {} | 3.39", ["error"], 2),
    (CORRECTION, "cpu_linear.json", "linear", PAIRS, "16.0 -> {} |", ["336..400 nm"], 2),
    (CORRECTION, "cpu_linear.json", "linear", PAIRS, "J0410..z | {} |", ["JPLUS mmag before"], 3),
    *(
        (
            CORRECTION,
            "cpu_linear.json",
            "linear",
            PAIRS,
            f"| {said} | {{}} | {{}} |",
            [f"{one} mmag before", f"{one} mmag"],
            n,
        )
        for said, one, n in (
            ("PanSTARRS1 griz", "PanSTARRS1", 2),
            ("SDSS griz", "SDSS", 2),
            ("DECam griz", "DECam", 2),
        )
    ),
    (CORRECTION, "cpu_linear.json", "linear", PAIRS, "SkyMapper vgri | {} |", ["Sky_Mapper mmag before"], 3),
    (CORRECTION, "cpu_linear.json", "linear", PAIRS, "LSST ugriz | {} |", ["lsst2023 mmag before"], 3),
    (CORRECTION, "cpu_linear.json", "linear", "SNfactory, never trained on", "| {} % |", ["xp before"], 3),
    (CORRECTION, "cpu_linear.json", "linear", "SNfactory, never trained on", "| {} % |", ["xp"], 2),
    (CORRECTION, "cpu_linear.json", "linear", "median pattern*", "{} % | {} % |", ["full, none", "full, standard"], 2),
    (CORRECTION, "cpu_linear.json", "linear", "median pattern*", "{} % | {} % |", ["xp, none", "xp, standard"], 2),
    (
        *(CORRECTION, "cpu_linear.json", "linear", "chi2/dof against*", "4500..5500 K | {} | {} |"),
        *(["4500..5500 K before (62)", "4500..5500 K after (62)"], 2),
    ),
    *(
        (GAIAXPY, "cpu_gaiaxpy.json", "gaiaxpy", case, around, keys, n)
        for case, around, keys, n in (
            ("gaiaxpy generate JPLUS, DataFrame", "| {} |", ["seconds"], 3),
            ("generate JPLUS, DataFrame", "| {} | {} |", ["gaiaxpy", "processor time"], 2),
            ("gaiaxpy calibrate, DataFrame", "| {} |", ["seconds"], 3),
            ("calibrate, DataFrame", "| {} |", ["seconds"], 3),
            ("calibrate, DataFrame", "| {} | {} |", ["gaiaxpy", "processor time"], 2),
            ("gaiaxpy generate JPLUS, CSV", "| {} |", ["seconds"], 3),
            ("generate JPLUS, CSV", "| {} |", ["seconds"], 3),
            ("generate JPLUS, CSV", "| {} | {} |", ["gaiaxpy", "processor time"], 2),
        )
    ),
    (RELY, COMPACT, "photometry", BARE, "move {} % of the bytes", ["copy limit/0.01"], 2),
    (RELY, COMPACT, "photometry", BARE, "would take {} % of their time", ["matrix product alone/0.01"], 2),
]
"""Page, file, stage, case, what the page says, the figures in it (over a unit), and their digits."""
ERRORS = [
    (COMPACT, "photometry", "12 magnitudes, no errors", "| flux: {} of sum of abs(c r)"),
    (COMPACT, "photometry", "12 magnitudes, full-correlation errors", "| flux error: {} |"),
    (COMPACT, "spectra", "343 fluxes, no errors", "| flux: {} of sum of abs(c d)"),
    (COMPACT, "spectra", "343 fluxes, full-correlation errors", "| flux error: {} |"),
]
RESULTS = ROOT / "benchmarks" / "results"


def text_of(page: str) -> str:
    """A page, in one line."""
    return re.sub(r"\s+", " ", (ROOT / page).read_text())


def stored(file: str, stage: str, case: str, key: str) -> float:
    """A figure of a stored result, by the names of its stage and case, over a unit: "peak_bytes/1e9"."""
    rows = json.loads((RESULTS / file).read_text())["rows"]
    (row,) = [row for row in rows if row["stage"] == stage and fnmatchcase(row["case"], case)]
    name, _, unit = key.partition("/")
    return float(row["ratios"][name] if name in row["ratios"] else row[name]) / float(unit or 1)


def digits(value: float, n: int) -> str:
    """A number with n significant digits, as text has it."""
    rounded = float(f"{value:.{n}g}")
    return f"{rounded:,.0f}" if rounded >= 10 ** (n - 1) else f"{rounded:#.{n}g}"


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: f"{figure[0]}-{figure[3]}-{figure[5][0]}")
def test_figures_are_the_stored_ones(figure: tuple) -> None:
    page, file, stage, case, around, keys, n = figure
    said = around.format(*(digits(stored(file, stage, case, key), n) for key in keys))
    assert said in text_of(page), f"{page} should say {said!r}, as {file} does"


@pytest.mark.parametrize("figure", ERRORS, ids=lambda figure: figure[2])
def test_errors_are_the_stored_ones(figure: tuple) -> None:
    file, stage, case, around = figure
    said = around.format(f"{stored(file, stage, case, 'error'):.0e}".replace("e-0", "e-"))
    assert said in text_of(README), f"README should say {said!r}, as {file} does"


@pytest.mark.parametrize("file", [COMPACT, STELLAR, "cpu_catalogue.json", "cpu_joint.json", "cpu_gaiaxpy.json"])
def test_speeds_are_of_the_machine_that_is_named(file: str) -> None:
    machine = json.loads((RESULTS / file).read_text())["machine"]
    assert f"Two cores of an {machine['cpu']}," in text_of(README)
    assert machine["cores"] == 2


def test_digits() -> None:
    assert [digits(x, 3) for x in (8264047.2, 5738.8, 55.78, 0.996, 47.41)] == [
        "8,260,000",
        "5,740",
        "55.8",
        "0.996",
        "47.4",
    ]
    assert digits(36.56, 2) == "37"


def test_the_page_of_installation_has_every_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    said = (DOCS / "install.md").read_text()
    assert not [extra for extra in extras if f"`{extra}`" not in said]


def test_the_version_to_cite_is_the_package_s() -> None:
    assert f"version = {{{xpjax.__version__}}}" in (DOCS / "citing.md").read_text()


def test_readme_is_short_and_begins_with_a_figure() -> None:
    lines = (ROOT / README).read_text().splitlines()
    assert len(lines) <= 120
    assert lines[2].startswith("![")


# --- the tour ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and lines of Python in order, in one folder and one session, with fewer stars."""
    monkeypatch.chdir(tmp_path)
    session: dict = {}
    text = (DOCS / "tour.md").read_text().replace("simulate -n 2000", "simulate -n 40")
    for command, code in re.findall(r"^    (xpjax [^\n]*)$|^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if code:
            exec(code, session)
            continue
        result = CliRunner().invoke(main, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception!r}"
    assert (tmp_path / "three_lines.png").exists()
    assert session["mine"].magnitude.shape == (40, 13)


def follow(lines: list[str]) -> None:
    """Run commands of xpjax in the present folder, as a shell would."""
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        there = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in words]
        result = CliRunner().invoke(main, [word for several in there for word in several])
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"


@pytest.mark.slow
def test_the_page_of_a_field_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands on a simulated field, with fewer stars, and then those on tables of one's own."""
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^    (xpjax .*)$", (DOCS / "guide" / "field.md").read_text(), re.MULTILINE)
    own, simulated = lines[:5], lines[5:]
    follow([line.replace("--exposures 6 --stars 300", "--exposures 3 --stars 80") for line in simulated])
    for path in (tmp_path / "mock").iterdir():
        path.rename(tmp_path / path.name)
    (tmp_path / "solution").rename(tmp_path / "first")
    follow(own[1:])
    assert (tmp_path / "solution" / "calibrated.parquet").exists()


@pytest.mark.slow
def test_the_page_of_a_telescope_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its TOML file, commands and lines of Python; the fit, of real magnitudes, is another test's."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "guide" / "telescope.md").read_text()
    (toml,) = re.findall(r"^:caption: telescope.toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "telescope.toml").write_text(toml)
    for band, center in (("g", 480), ("r", 620)):
        curve = [f"{x} {0.9 * (abs(x - center) < 60)}" for x in range(center - 80, center + 81, 5)]
        (tmp_path / f"{band}.dat").write_text("\n".join(["# wavelength[nm] transmission", *curve]) + "\n")
    sources = xpjax.simulate_sources(20, seed=0)
    xpjax.write("stars.parquet", sources)
    follow(re.findall(r"^    (xpjax [^\n]*[^\\\n])$", text, re.MULTILINE))
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    session: dict = {"xpjax": xpjax, "sources": sources}
    exec(code, session)
    assert session["stars"].magnitude.shape == (20, 2)
