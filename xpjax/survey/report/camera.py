"""The telescope and detector of a report, by name or from a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpjax.core.errors import XpjaxError, say
from xpjax.io.config import parse, read_toml, section_of
from xpjax.survey import CAMERAS, Camera

CameraSection = section_of("CameraSection", Camera)


def load_camera(name: str | Path) -> Camera:
    """The camera "cmos" or "ccd", or that of a TOML file: its section [camera], or the entries of one alone."""
    if str(name).lower() in CAMERAS:
        return CAMERAS[str(name).lower()]
    if not Path(name).is_file():
        raise XpjaxError(f"{say('camera', '--camera')} {str(name)!r}: give cmos, ccd or the TOML file of a camera")
    return read_toml(name, lambda table, _: camera_of(table.get("camera", table)))


def camera_of(table: Mapping[str, Any]) -> Camera:
    """The camera in the entries of a section."""
    return parse(CameraSection, table, "[camera]").make(Camera)
