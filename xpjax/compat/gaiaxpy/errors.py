"""The exceptions of GaiaXPy's interface."""

from __future__ import annotations


class ExtensionNotImplementedError(Exception):
    """A format that a function cannot take."""


class InvalidBandError(Exception):
    """A band that is neither BP nor RP."""

    def __init__(self, band: object) -> None:
        super().__init__(f"no band {band!r}; choose 'bp' or 'rp'")


class InvalidExtensionError(ValueError):
    """A suffix or format that is not known."""


class MissingColumnError(KeyError, ValueError):
    """The input lacks columns; GaiaXPy raises KeyError or ValueError, depending on the format."""

    def __str__(self) -> str:
        return str(self.args[0])


class NoBandsAvailableError(Exception):
    """A source with neither BP nor RP; raised in `strict` mode only."""


class SelectorNotImplementedError(Exception):
    """A selector of records; named for scripts that catch it."""
