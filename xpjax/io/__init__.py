"""Tables of any format in and out, model files and configuration files; no kernels.

`__all__` is public, and loaded when it is first used. Rooms of xpjax use the modules directly: io is ground.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpjax.io.catalogue import read_table as read_table, write as write
    from xpjax.io.tables import open_table as open_table

__all__ = ["open_table", "read_table", "write"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from xpjax.io import catalogue

        return getattr(catalogue, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
