"""The recipes of the guide run as they stand, with fewer exposures and stars."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

import xpjax
from xpjax.cli import main

GUIDE = Path(xpjax.__file__).parents[1] / "docs" / "guide"
SPLUS = Path(xpjax.__file__).parents[2] / "shared" / "data" / "splus" / "stripe82_0001_400.fits"
SMALLER = {
    "recipes.md": {"--output mock": "--output mock --exposures 3 --stars 60", "n_exposure = 40": "n_exposure = 2"},
    "recipes-nights.md": {"--exposures 60 --stars 2000 --nights 5": "--exposures 12 --stars 150 --nights 2"},
    "recipes-tiles.md": {
        "--stars 800": "--stars 400",
        "--tiles 3,3": "--tiles 2,1",
        "--exposures 27": "--exposures 6",
    },
    "recipes-splus.md": {"--folds 10": "--folds 2"},
    "recipes-crop.md": {},
    "recipes-medium-bands.md": {
        "900, 25)": "900, 125)",
        "--exposures 60": "--exposures 8",
        "--stars 400": "--stars 120",
    },
}
"""What is replaced in the commands of each page, to make them quick."""


def commands(page: Path) -> list[tuple[str, str]]:
    """Command lines of a page, in order, each with the text that it is given (`<< 'EOF'`)."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", page.read_text(), re.MULTILINE)
    lines = textwrap.dedent("".join(blocks)).replace("\\\n", " ").splitlines()
    found = []
    while lines:
        line, text = lines.pop(0), []
        if line.endswith("<< 'EOF'"):
            while (more := lines.pop(0)) != "EOF":
                text.append(more)
        if line.strip():
            found.append((line.removesuffix("<< 'EOF'").strip(), "\n".join(text) + "\n"))
    return found


def run(line: str, text: str, folder: Path) -> str:
    """Run a line as a shell in a folder would, here: xpjax, python, cat and mkdir. What it says."""
    words = shlex.split(line, comments=True)
    if words[0] == "cat":
        (folder / words[2]).write_text(text)
        return ""
    if words[0] == "mkdir":
        (folder / words[-1]).mkdir(exist_ok=True)
        return ""
    if words[0] == "python":
        with contextlib.redirect_stdout(io.StringIO()) as told:
            exec(text, {"__name__": "__main__"})
        return told.getvalue()
    assert words[0] == "xpjax", line
    there = [sorted(map(str, folder.glob(word))) if "*" in word else [word] for word in words[1:]]
    result = CliRunner().invoke(main, [word for several in there for word in several])
    assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
    return result.output


def follow(name: str, folder: Path, smaller: dict[str, str]) -> str:
    """Run all of a page in a folder; what its commands say."""
    said = []
    for line, text in commands(GUIDE / name):
        for old, new in smaller.items():
            line, text = line.replace(old, new), text.replace(old, new)
        said.append(run(line, text, folder))
    return "\n".join(said)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLER)
def test_a_recipe_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if "splus" in name:
        if not SPLUS.exists():
            pytest.skip(f"no {SPLUS}")
        shutil.copy(SPLUS, tmp_path)
    whole = "\n".join(line + text for line, text in commands(GUIDE / name))
    assert all(old in whole for old in SMALLER[name])
    said = follow(name, tmp_path, SMALLER[name])
    assert said
    for pull in re.findall(r"pulls ([\d.]+)", said):
        assert 0.2 < float(pull) < 2
    for off, stated in re.findall(r"off by ([\d.]+) mmag \(stated: ([\d.]+)\)", said):
        assert float(off) < 4 * float(stated)


def test_every_recipe_is_run() -> None:
    assert set(SMALLER) == {page.name for page in GUIDE.glob("recipes*.md")}
