"""The house rules that a machine can keep: floors, imports, globals, sizes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xpjax

PACKAGE = Path(xpjax.__file__).parent
FLOORS = (
    ("core.constants", "core.errors", "core.paths"),
    ("core.units", "core.curve_units", "core.release", "core.status"),
    ("core",),
    ("extinction", "io"),
    ("xp",),
    ("synthetic",),
    ("wiggles",),
    ("stellar",),
    ("survey",),
    ("survey.exposures",),
    ("survey.joint", "survey.scr", "survey.report"),
    ("catalogue",),
    ("cli", "compat", "plot"),
)
UPWARD = {
    ("survey.config", "survey.exposures"): "a survey's TOML file names the terms of its exposures' zero-points",
    ("survey.rows", "survey.exposures"): "aperture magnitudes are corrected as the rows are read",
}
"""Imports from a floor above, with their reasons; at most two."""
LAZY = (
    *("astropy", "astropy_healpix", "dask", "distributed", "fastavro", "hats", "isal", "lsdb", "matplotlib", "optax"),
    *("pandas", "pyarrow"),
)
MODULES = sorted(PACKAGE.rglob("*.py"))


def floor(module: str) -> int | None:
    """The floor of `xpjax.<module>`; a room's own name beats its parent's."""
    for level, rooms in reversed(list(enumerate(FLOORS))):
        if any(module == room or module.startswith(room + ".") for room in rooms):
            return level
    return None


def name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_go_down_only(path: Path) -> None:
    own = floor(name(path))
    if own is None:
        assert path.name == "__init__.py"
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "xpjax":
            targets = [node.module.removeprefix("xpjax").lstrip(".")]
            if not targets[0]:
                targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            targets = [a.name.removeprefix("xpjax.") for a in node.names if a.name.startswith("xpjax.")]
        else:
            continue
        for target in targets:
            level = floor(target)
            allowed = any(name(path) == here and target.startswith(there) for here, there in UPWARD)
            assert level is None or level <= own or allowed, f"{name(path)} imports {target} from a floor above"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_heavy_libraries_are_imported_where_used(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        names = (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        for module in names:
            assert module.split(".")[0] not in LAZY, f"{name(path)} imports {module} when it is loaded"
            assert module.split(".")[0] != "gaiaxpy", "the runtime never imports GaiaXPy"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_basis_size_is_written_as_a_number(path: Path) -> None:
    found = [
        (node.lineno, node.value)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value in (55, 110, 1485, 1540, 2970)
    ]
    allowed = 2 if path.name == "release.py" else 0  # DR3's own descriptor
    assert len(found) <= allowed, found


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_output_and_no_global_settings(path: Path) -> None:
    text = path.read_text()
    for word in ("pickle", "config.update(", "warnings.filterwarnings", "except:", "jax_enable_x64"):
        assert word not in text, f"{word} in {name(path)}"


def test_import_is_quick_quiet_and_starts_no_backend() -> None:
    code = (
        "import sys, time, jax; t = time.perf_counter(); import xpjax; t = time.perf_counter() - t;"
        "from jax._src import xla_bridge; assert not xla_bridge._backends, 'backend started';"
        f"heavy = [m for m in {LAZY!r} if m in sys.modules]; assert not heavy, heavy;"
        "print(f'{t:.3f}')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert float(done.stdout) < 0.5


def test_the_glossary_has_what_messages_send_one_to() -> None:
    glossary = (PACKAGE.parent / "docs" / "glossary.md").read_text()
    known = {line.removeprefix("## ").lower() for line in glossary.splitlines() if line.startswith("## ")}
    named = {
        (name(path), term)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for term in re.findall(r"\(glossary: ([^)]*)\)", node.value)
    }
    assert named, "no message names an entry of the glossary"
    assert not {(where, term) for where, term in named if term.lower() not in known}


def test_public_names_exist_and_hide_no_room() -> None:
    rooms = {p.stem for p in PACKAGE.glob("*.py")} | {p.name for p in PACKAGE.iterdir() if p.is_dir()}
    for public in xpjax.__all__:
        assert getattr(xpjax, public) is not None
        assert public not in rooms
    assert len(xpjax.__all__) <= 35
    assert set(xpjax.__all__) <= set(dir(xpjax))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        xpjax.nothing  # noqa: B018


def test_the_type_checkers_names_are_the_runtimes() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    typed = {a.asname: n.module for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert typed == xpjax._HOME
