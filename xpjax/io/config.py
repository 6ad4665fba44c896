"""Configuration files: TOML sections as typed models, errors in the words of the house, and a page that lists them.

A section is a pydantic model: its fields are the entries, with types, defaults and meanings. `section_of` makes one
from records whose arguments the entries are, so that nothing is said twice: their docstrings describe the entries.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from xpjax.core.errors import XpjaxError

T = TypeVar("T")
S = TypeVar("S", bound="Section")


class Section(BaseModel):
    """A section of a configuration file; lists become tuples, whole numbers floats, and nothing else is converted."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True, protected_namespaces=()
    )

    def given(self) -> dict[str, Any]:
        """The entries that the file has, without defaults."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    def make(self, record: Callable[..., T], **more: Any) -> T:
        """A record from the entries that it takes, by its own defaults where the file says nothing."""
        known = inspect.signature(record).parameters
        return record(**{name: value for name, value in self.given().items() if name in known}, **more)


def entry(default: Any, meaning: str, unit: str = "") -> Any:
    """A field of a section: its default (`...` for none), meaning and unit."""
    return Field(default, description=meaning, json_schema_extra={"unit": unit} if unit else None)


def section_of(name: str, /, *records: type, without: Iterable[str] = (), **more: tuple[Any, Any]) -> type[Section]:
    """A section whose entries are the arguments of dataclasses, described by their docstrings; more as for pydantic."""
    fields: dict[str, Any] = {}
    for record in records:
        said = parameters_of(inspect.getdoc(record) or "")
        chosen = [f for f in dataclasses.fields(record) if f.init and f.name not in without and f.name not in more]
        hints = _types_of(record, [field.name for field in chosen])
        for field in chosen:
            default = field.default if field.default is not dataclasses.MISSING else ...
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            unit, meaning = said.get(field.name, ("", ""))
            fields[field.name] = hints[field.name], entry(default, meaning, unit)
    return create_model(name, __base__=Section, **{**fields, **more})


def _types_of(record: type, names: Sequence[str]) -> dict[str, Any]:
    """Types of these fields alone: those of others may name libraries that type checkers alone import."""
    found: dict[str, Any] = {}
    for owner in reversed(record.__mro__):
        own = {name: hint for name, hint in inspect.get_annotations(owner).items() if name in names}
        holder = type(owner.__name__, (), {"__annotations__": own, "__module__": owner.__module__})
        found |= typing.get_type_hints(holder)
    return found


def parameters_of(docstring: str) -> dict[str, tuple[str, str]]:
    """Unit and meaning of every parameter that a numpydoc docstring describes."""
    found: dict[str, tuple[str, str]] = {}
    _, _, rest = docstring.partition("Parameters\n----------\n")
    block = re.split(r"\n\n(?=\w[\w ]*\n---)", rest)[0]
    for head, body in re.findall(r"^(\w[^\n]*)\n((?:    .*\n?|\n(?=    ))*)", block + "\n", re.MULTILINE):
        names, _, kind = head.partition(" : ")
        unit = re.search(r"\[([^\[\]]+)\]", kind)
        for name in names.split(","):
            found[name.strip()] = (unit[1] if unit else "", " ".join(body.split()))
    return found


# --- reading ----------------------------------------------------------------------------------------------------------


def read_toml(path: str | Path, make: Callable[[Mapping[str, Any], Path], T]) -> T:
    """What `make` makes of a TOML file's names and values and of its folder. Raises XpjaxError naming the file."""
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise XpjaxError(f"{path}: not TOML: {error}") from error
    try:
        return make(table, path.parent)
    except (ValueError, TypeError) as error:
        raise XpjaxError(f"{path.name}: {error}") from error


def check_names(table: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise XpjaxError for a name that is not known, with those that are near."""
    known = list(known)
    for name in table:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise XpjaxError(f"unknown {what} {name!r}; {hint}")


def check_sections(table: Mapping[str, Any], known: Mapping[str, bool]) -> None:
    """Raise XpjaxError for sections that are not known; known: whether each may come several times, as [[name]]."""
    check_names(table, known, "section")
    for name, part in table.items():
        if known[name]:
            if not isinstance(part, list) or not all(isinstance(one, Mapping) for one in part):
                raise XpjaxError(f"{name} comes as tables in double brackets, [[{name}]], each with entries of its own")
        elif not isinstance(part, Mapping):
            raise XpjaxError(f"{name} = {part!r}: expected a section, [{name}], with entries of its own")


def parse(model: type[S], table: Mapping[str, Any], where: str) -> S:
    """A section from its names and values. Raises XpjaxError with what was found in `where` and what was expected."""
    check_names(table, model.model_fields, f"entry of {where}")
    try:
        return model.model_validate(_tuples(dict(table)))
    except ValidationError as error:
        raise XpjaxError(_said(error.errors(include_url=False), table, where)) from error


def _tuples(value: Any) -> Any:
    """Lists as tuples, which do not change."""
    if isinstance(value, list | tuple):
        return tuple(map(_tuples, value))
    return {name: _tuples(one) for name, one in value.items()} if isinstance(value, dict) else value


_EXPECTED = {
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("tuple_type", "list_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "dataclass_type"), "a table"),
    **{"string_type": "text", "bool_type": "true or false", "none_required": ""},
}


def _said(errors: list[Any], table: Mapping[str, Any], where: str) -> str:
    """The first thing that is wrong; a value that may be of several types comes with an error for each of them."""
    first = errors[0]
    path, value = _path(first["loc"], table)
    if first["type"] == "missing":
        return f"{where} has no {first['loc'][0]}" if not path else f"{where} {path} = {value!r}: expected more values"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    if first["type"] == "extra_forbidden":
        return f"unknown entry of {where} {path!r}"
    expected = []
    for error in errors:
        if _path(error["loc"], table)[0] == path:
            words = error["msg"].removeprefix("Input should be ").replace("'", '"')
            expected.append(_EXPECTED.get(error["type"], words))
    return f"{where} {path} = {value!r}: expected {' or '.join(dict.fromkeys(filter(None, expected)))}"


def _path(location: tuple[Any, ...], table: Any) -> tuple[str, Any]:
    """The dotted name of an entry, without what pydantic appends for members of a union, and its value."""
    names = []
    for name in location:
        there = isinstance(table, list | tuple) and isinstance(name, int) and name < len(table)
        if not there and not (isinstance(table, Mapping) and name in table):
            break
        table = table[name]
        names.append(str(name))
    return ".".join(names), table


# --- the page ---------------------------------------------------------------------------------------------------------


def reference(sections: Mapping[str, type[Section]]) -> str:
    """Sections by their headings, such as "[model]", as Markdown tables of entries."""
    return "\n".join(_table(heading, section) for heading, section in sections.items())


def _table(heading: str, section: type[Section]) -> str:
    said = inspect.getdoc(section) if section.__doc__ and section.__doc__ != Section.__doc__ else ""
    lines = [f"## `{heading}`", ""]
    lines += [said, ""] if said else []
    lines += ["| entry | type | unit | default | meaning |", "|---|---|---|---|---|"]
    for name, field in section.model_fields.items():
        extra = field.json_schema_extra
        unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
        cells = (f"`{name}`", _type(field.annotation), unit, _default(field), field.description or "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


_TYPES = {bool: "true or false", int: "integer", float: "number", str: "text", Any: "any", types.NoneType: ""}


def _type(kind: Any) -> str:
    """A type in the words of TOML."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(filter(None, dict.fromkeys(map(_type, inside))))
    if origin is Literal:
        return " or ".join(f'`"{value}"`' for value in inside)
    if origin is tuple:
        return "list of " + " or ".join(dict.fromkeys(_type(one) for one in inside if one is not ...))
    return _TYPES.get(kind, "table")


def _default(field: FieldInfo) -> str:
    if field.is_required():  # some are filled in from other sections, which their meaning says
        return "" if "by default" in (field.description or "") else "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return f"{value:g}" if isinstance(value, int | float) else ""
