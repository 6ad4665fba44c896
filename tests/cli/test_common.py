"""What holds for every command: help, messages, exit statuses, and no partial file."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pytest

from tests.cli.helpers import files, xp
from tests.marks import slow_after
from xpjax.cli import main
from xpjax.core.errors import XpjaxError, command_line, say
from xpjax.core.records import Catalogue

COMMANDS = (
    *("photometry", "spectra", "simulate", "demo", "info", "plot", "systems"),
    *("fetch", "ebv", "lightcurve", "store", "passband", "wiggles", "labels", "catalogue", "survey"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    result = xp(command, "--help")
    assert result.exit_code == 0
    assert "--help" in result.stdout
    assert f"  xpjax {command}" in result.stdout or command in ("info", "passband", "grid", "store", "wiggles")


def test_help_is_quick() -> None:
    """No backend, no table or figure library until a command needs them."""
    assert set(COMMANDS) == set(main.commands)
    code = (
        "import sys; from xpjax.cli import main; main(['--help'], standalone_mode=False);"
        "heavy = {'jax', 'equinox', 'astropy', 'matplotlib', 'pandas', 'pyarrow', 'h5py'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("photometry", "{in}", "-o", "{out}", "--system", "SDDS"), "did you mean SDSS"),
        (("photometry", "{in}", "-o", "{out}", "--system", "nowhere.h5"), "no system file nowhere.h5"),
        (("photometry", "{in}", "-o", "{out}"), "Missing option '--system' or '--passbands'"),
        (("photometry", "{in}.no", "-o", "{out}", "--system", "SDSS"), "does not exist"),
        (("photometry", "-o", "{out}", "--system", "SDSS"), "Missing argument 'INPUT...'"),
        (("spectra", "{in}", "-o", "{out}", "--instrument", "v1"), "no instrument model 'v1'"),
        (("spectra", "{in}", "-o", "{out}", "--instrument", "nowhere.h5"), "no instrument file nowhere.h5"),
        (("systems", "Jplos"), "JPLUS"),
        (("plot", "{in}", "-o", "{out}"), "the suffix of a figure"),
        (("photometry", "{in}", "-o", "{out}", "--system", "SDSS", "--keep", "source_id"), "cannot keep columns"),
        (("spectra", "{in}", "-o", "{out}", "--wavelength", "a:b:c"), "expected START:STOP:STEP"),
        (("spectra", "{in}", "-o", "{out}", "--wavelength", "3500:9000:10"), "are these Angstrom? Divide them by 10"),
    ],
)
def test_bad_calls(inputs: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    places = {"in": inputs / "sources.csv", "out": tmp_path / "out.csv"}
    result = xp(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert files(tmp_path) == []


def test_overwrite(inputs: Path, tmp_path: Path) -> None:
    call = ("photometry", inputs / "sources.fits", "--system", "SDSS", "-o", tmp_path / "mags.csv")
    assert xp(*call).exit_code == 0
    assert xp(*call).exit_code == 2
    assert xp(*call, "--overwrite").exit_code == 0


def test_debug_shows_the_traceback(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean"):
        xp("--debug", "photometry", inputs / "sources.csv", "--system", "SDDS", "-o", tmp_path / "out.csv")


LIMITED = """
import resource, sys, matplotlib.font_manager
from xpjax.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
for where in ("new", "old"):
    try:
        main([*sys.argv[2:], "--output", f"{where}/{sys.argv[1]}", *["--overwrite"] * (where == "old")])
    except SystemExit as stop:
        print(stop.code)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs limits of file sizes as Linux has them")
@pytest.mark.parametrize(
    "name",
    [
        "mags.csv",
        *(pytest.param(f"mags.{suffix}", marks=pytest.mark.slow) for suffix in ("h5", "parquet", "fits")),
        *(pytest.param(f"f.{suffix}", marks=pytest.mark.slow) for suffix in ("png", "svg", "pdf")),
    ],
)
def test_disk_that_takes_no_more(inputs: Path, tmp_path: Path, name: str) -> None:
    """In a process of its own, with a limit that the system enforces; an old file stays."""
    new, old = (tmp_path / which for which in ("new", "old"))
    new.mkdir()
    old.mkdir()
    (old / name).write_text("old")
    source = str(inputs / "sources.fits")
    call = ["photometry", source, "--system", "JPLUS"] if name.startswith("mags") else ["plot", source]
    command = [sys.executable, "-c", LIMITED, name, *call]
    env = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}  # JAX could not write there either
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "2"]
    assert done.stderr.count("Error: ") == 2
    for where in ("new", "old"):
        assert f"Error: cannot write {where}/{name}: File too large; the file would be larger than" in done.stderr
    assert "Traceback" not in done.stderr
    assert files(new) == []
    assert files(old) == [name]
    assert (old / name).read_text() == "old"


FAILURES = [
    (MemoryError("Unable to allocate 3 TiB"), "not enough memory (Unable to allocate 3 TiB); give fewer"),
    (MemoryError(), "not enough memory (MemoryError); give fewer"),
    (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"), "not enough memory (RESOURCE_EX"),
    (RuntimeError("Unable to initialize backend 'foo'"), "'foo'; choose another --device, or set JAX_PLATFORMS=cpu"),
]


@pytest.mark.parametrize(("failure", "message"), FAILURES)
def test_devices_and_memory_that_fail(
    inputs: Path, tmp_path: Path, failure: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise failure

    monkeypatch.setattr("xpjax.core.engine.run", fail)
    call = ("photometry", inputs / "sources.fits", "--system", "SDSS", "-o", tmp_path / "mags.csv")
    result = xp(*call)
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line]
    assert line.startswith("Error: ")
    assert message in line
    assert files(tmp_path) == []
    with pytest.raises(type(failure)):
        xp("--debug", *call)


class Odd(Exception):
    """Nothing that a user can mend."""


ODD = (RuntimeError, ValueError, KeyError)
BUGS = [*(kind("odd") for kind in ODD), TypeError("odd\nand more"), Odd("odd")]


def failing(monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise failure

    monkeypatch.setattr("xpjax.core.engine.run", fail)


@pytest.mark.parametrize("failure", BUGS, ids=lambda failure: type(failure).__name__)
def test_everything_else_is_a_bug(
    inputs: Path, tmp_path: Path, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, failure)
    monkeypatch.chdir(tmp_path)
    call = ("photometry", inputs / "sources.fits", "--system", "SDSS", "-o", "mags of mine.csv")
    result = xp(*call)
    assert result.exit_code == 1
    (name,) = files(tmp_path)
    assert re.fullmatch(rf"xpjax-bug-\d{{8}}-\d{{6}}-{os.getpid()}\.txt", name)
    (line,) = [line for line in result.stderr.splitlines() if line]
    assert re.match(rf"Error: this is a bug in xpjax: [\w.]*{type(failure).__name__}: '?odd'?; please send ", line)
    assert line.endswith(f"{tmp_path / name} with the call")
    report = (tmp_path / name).read_text()
    assert f"call: xpjax photometry {inputs / 'sources.fits'} --system SDSS -o 'mags of mine.csv'\n" in report
    for word in ("xpjax 0.", "jax 0.", "python 3.", "Traceback", "in fail", "odd"):
        assert word in report
    with pytest.raises(type(failure)):
        xp("--debug", *call)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_reports_go_elsewhere_from_folders_that_take_no_file(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, TypeError("odd"))
    monkeypatch.chdir("/proc")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = xp("photometry", inputs / "sources.fits", "--system", "SDSS", "-o", tmp_path / "mags.csv")
    assert result.exit_code == 1
    (name,) = files(tmp_path)
    assert f"please send {tmp_path / name}" in result.stderr


def test_interrupts(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    monkeypatch.chdir(tmp_path)
    result = xp("photometry", inputs / "sources.fits", "--system", "SDSS", "-o", "mags.csv")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "interrupted"
    assert files(tmp_path) == []


def test_messages_speak_python_or_options(inputs: Path, tmp_path: Path) -> None:
    import xpjax

    taken = tmp_path / "mags.csv"
    taken.touch()
    with pytest.raises(FileExistsError, match=r"overwrite it with overwrite=True$"):
        xpjax.write(taken, Catalogue({}))
    result = xp("photometry", inputs / "sources.fits", "--system", "SDSS", "-o", taken)
    assert "overwrite it with --overwrite" in result.stderr
    assert say("a", "b") == "a"
    with command_line():
        assert say("a", "b") == "b"
    with pytest.raises(XpjaxError, match=r"add allow_outside=True to have"):
        xpjax.passband_system(xpjax.Passband("r", [900, 1000, 1200], [0.5, 1, 1]))


def test_quiet(inputs: Path, tmp_path: Path) -> None:
    call = ("photometry", inputs / "sources.fits", "--system", "SDSS", "--overwrite", "-o", tmp_path / "mags.csv")
    assert "6 sources read" in xp(*call).stderr
    for quiet in (("--quiet", *call), ("-q", *call), (*call, "-q"), (*call, "--quiet")):
        result = xp(*quiet)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert "did you mean" in xp("--quiet", "systems", "SDDS").stderr
    assert "JPLUS" in xp("-q", "systems").stdout


def commands(group: click.Command, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    if not isinstance(group, click.Group):
        return {path: group}
    return {k: c for name, inner in group.commands.items() for k, c in commands(inner, (*path, name)).items()}


def test_every_command_can_be_quiet() -> None:
    for path, command in commands(main).items():
        names = [name for parameter in command.params for name in parameter.opts]
        assert names.count("--quiet") == names.count("-q") == 1, path
        assert len(names) == len({*names}), path


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.parametrize("error", slow_after(1, ["2>/dev/full", "2>&-", "2> >(exit 0)"]))
def test_standard_error_that_takes_nothing(tmp_path: Path, error: str) -> None:
    """The job is done, its output whole, and what went wrong still has its exit status."""
    code = "import sys; from xpjax.cli import main; main(sys.argv[1:])"
    for arguments, status in (("simulate -n 8 -o a.csv", 0), ("simulate -n 0 -o b.csv", 2)):
        call = f"sleep 0.1; '{sys.executable}' -c '{code}' {arguments} {error}"
        done = subprocess.run(["bash", "-c", call], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 9
    assert files(tmp_path) == ["a.csv"]


@pytest.mark.slow
def test_unknown_backend(inputs: Path, tmp_path: Path) -> None:
    code = "import sys; from xpjax.cli import main; main(sys.argv[1:])"
    call = [sys.executable, "-c", code, "photometry", str(inputs / "sources.fits"), "--system", "SDSS", "-o", "o.csv"]
    environment = {**os.environ, "JAX_PLATFORMS": "foo"}
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Error: Unable to initialize backend 'foo'" in done.stderr
    assert "Traceback" not in done.stderr
