"""The house rules that a machine can keep: floors, imports, globals, sizes."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

import xpjax

PACKAGE = Path(xpjax.__file__).parent
FLOORS = (
    ("core.constants", "core.errors", "core.paths", "core.version"),
    ("core.units", "core.release", "core.status"),
    ("core",),
    ("extinction", "io"),
    ("xp",),
    ("synthetic",),
    ("wiggles",),
    ("stellar",),
    ("survey",),
    ("survey.exposures",),
    ("survey.reading",),
    ("survey.joint", "survey.scr", "survey.report"),
    ("catalogue",),
    ("cli", "compat", "lsdb", "plot"),
)
GROUND = ("core", "io")
ROOMS = (
    *("io", "xp", "synthetic", "wiggles", "stellar", "catalogue", "compat.gaiaxpy", "lsdb", "plot", "extinction"),
    "cli",
    *("survey", "survey.exposures", "survey.reading", "survey.joint", "survey.scr", "survey.report"),
)
LAZY = (
    *("astropy", "astropy_healpix", "dask", "distributed", "fastavro", "hats", "isal", "lsdb", "matplotlib", "optax"),
    *("pandas", "pyarrow", "requests", "threadpoolctl"),
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
            assert level is None or level <= own, f"{name(path)} imports {target} from a floor above"


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
    allowed = 3 if path.name == "release.py" else 0  # the descriptors of DR3 and DR4
    assert len(found) <= allowed, found


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_output_and_no_global_settings(path: Path) -> None:
    text = path.read_text()
    for word in ("pickle", "config.update(", "warnings.filterwarnings", "except:", "jax_enable_x64"):
        assert word not in text, f"{word} in {name(path)}"


def imports(path: Path) -> list[tuple[str, str]]:
    """Every `from xpjax.module import name` of a file, in functions too: the module without `xpjax.`, and the name."""
    return [
        (node.module.removeprefix("xpjax").lstrip("."), alias.name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "xpjax"
        for alias in node.names
    ]


def room(module: str) -> str:
    """The room that a module is in; "" for the top."""
    return max((r for r in (*GROUND, *ROOMS) if module == r or module.startswith(r + ".")), key=len, default="")


def test_no_import_circle() -> None:
    """Modules, imports in functions included, form no circle."""
    known = {name(path) for path in MODULES}
    graph = {
        name(path): {
            target if (target := f"{module}.{what}".lstrip(".")) in known else module for module, what in imports(path)
        }
        for path in MODULES
        if name(path) != "__init__"  # the top's door is lazy
    }
    while graph:
        leaves = [module for module, targets in graph.items() if not (targets & graph.keys()) - {module}]
        assert leaves, f"a circle among {sorted(graph)}"
        for module in leaves:
            del graph[module]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_rooms_are_entered_through_doors(path: Path) -> None:
    """Between rooms a name is imported from the room; the ground's modules are their own doors."""
    for module, what in imports(path):
        there = room(module)
        if there in GROUND or there == room(name(path)) or path == PACKAGE / "__init__.py":
            continue
        assert module == there, f"{name(path)} imports {what} from {module}, not from the door of {there or 'xpjax'}"


NOTEBOOKS = sorted((PACKAGE.parent / "notebooks").glob("*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_import_public_names(path: Path) -> None:
    for module, what in imports(path):
        public = importlib.import_module(f"xpjax.{module}".rstrip(".")).__all__
        known = what in public or f"{module}.{what}".lstrip(".") in (*ROOMS, "compat.gaiaxpy")
        assert known, f"{path.name}: {what} is not public in {module or 'xpjax'}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_private_name_crosses_a_file(path: Path) -> None:
    crossing = [(module, what) for module, what in imports(path) if re.match("_[^_]", what)]
    assert not crossing, f"{name(path)} imports private names {crossing}"


def test_rooms_have_doors() -> None:
    total = 0
    for there in ROOMS:
        door = importlib.import_module(f"xpjax.{there}")
        assert door.__all__ == sorted(door.__all__), there
        assert all(hasattr(door, public) for public in door.__all__), there
        assert not [public for public in door.__all__ if public in ROOMS], "a public name is the name of a room"
        total += len(door.__all__) if there not in ("cli", "compat.gaiaxpy") else 0
    assert total <= 190, total


CALLED = ("__call__", "__getitem__")
"""Methods that users call by no name."""


def says_any(hint: object, module: str) -> bool:
    """Whether a type has Any in it, by its own words or by those of an alias."""
    named = [vars(sys.modules[module]).get(word) for word in re.findall(r"[A-Za-z_]\w*", str(hint))]
    texts = [str(hint), *(alias for alias in named if isinstance(alias, str))]
    inside = any(Any in get_args(alias) for alias in named)  # not deeper: NumPy's own aliases have it there
    return inside or any(re.search(r"\bAny\b", text) for text in texts)


def any_types(thing: Any) -> list[str]:
    """Where the signature of a function, or the fields and public methods of a class, have the type Any."""
    if not inspect.isclass(thing):
        plain = inspect.unwrap(thing)
        hints = inspect.get_annotations(plain).items() if inspect.isfunction(plain) else ()
        return [f"{where}: {hint}" for where, hint in hints if says_any(hint, plain.__module__)]
    found = []
    for owner in (one for one in thing.__mro__ if one.__module__.split(".")[0] == "xpjax"):
        fields = [item for item in inspect.get_annotations(owner).items() if not item[0].startswith("_")]
        found += [f"{where}: {hint}" for where, hint in fields if says_any(hint, owner.__module__)]
        for method, part in vars(owner).items():
            if method in CALLED or not method.startswith("_"):
                part = part.fget if isinstance(part, property) else part
                part = part.func if isinstance(part, functools.cached_property) else part
                part = part.__func__ if isinstance(part, classmethod | staticmethod) else part
                found += [f"{method}: {where}" for where in any_types(part)] if inspect.isroutine(part) else []
    return found


@pytest.mark.parametrize("there", ["", *ROOMS])
def test_public_names_have_types(there: str) -> None:
    """Whoever types `xpjax.` is told what a function takes: nothing public takes, holds or gives Any."""
    door = importlib.import_module(f"xpjax.{there}".rstrip("."))
    named = {public: getattr(door, public) for public in door.__all__ if there != "cli"}
    found = {public: said for public, thing in named.items() if callable(thing) and (said := any_types(thing))}
    assert not found, found


def test_the_check_of_types_finds_any() -> None:
    class Wrong:
        size: int
        value: Mapping[str, Any]

        def read(self, path: str) -> Any: ...

    Wrong.__module__ = "xpjax.plot"
    Wrong.read.__module__ = "xpjax.plot"
    assert any_types(Wrong) == ["value: Mapping[str, Any]", "read: return: Any"]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500, f"{name(path)} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            length = (node.end_lineno or first) - first + 1
            assert length <= 80, f"{name(path)}.{node.name} has {length} lines"


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
