"""What residuals mean: how they were made, and so how a correction that is trained on them is applied."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.extinction import AV_PER_SFD, LAWS, R_V

KINDS = ("additive", "multiplicative")
SPACES = ("dereddened", "observed")
GAIA_FROM = ("synthetic", "columns")
"""Where a feature's G, BP and RP come from: the XP spectrum, or given magnitudes."""
_CHOICES = {"kind": KINDS, "space": SPACES, "law": LAWS, "gaia": GAIA_FROM}
_DUST = ("law", "r_v", "per_ebv")
_USUAL = {"law": "ccm89", "r_v": R_V, "per_ebv": AV_PER_SFD}


class Stated(TypedDict, total=False):
    """What a caller says of residuals: fields of `Meaning`."""

    kind: str | None
    space: str | None
    law: str | None
    r_v: float | None
    per_ebv: float | None
    truncate: bool | None
    gaia: str | None
    release: str | None


@dataclasses.dataclass(frozen=True)
class Meaning:
    """How residuals and their features were made; None: it is not stated.

    kind: "additive" or "multiplicative", and space: "dereddened" or "observed" (`xpjax.wiggles.residuals`). law, r_v
    and per_ebv (A_V per E(B-V)): of the dereddening. truncate: whether the spectra, and the features, are of truncated
    coefficients. gaia: whether G, BP, RP among the features are "synthetic" or given ("columns"). release: name of the
    data release. Raises XpjaxError for other words.
    """

    kind: str | None = None
    space: str | None = None
    law: str | None = None
    r_v: float | None = None
    per_ebv: float | None = None
    truncate: bool | None = None
    gaia: str | None = None
    release: str | None = None

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise XpjaxError(f"{name} {value!r} is not one of {known}")

    @classmethod
    def of(cls, attributes: Mapping[str, Any], origin: str) -> Meaning:
        """What attributes of a file say. Raises XpjaxError for values that mean nothing."""
        found: dict[str, Any] = {}
        kinds: dict[str, Any] = {"r_v": float, "per_ebv": float, "truncate": _truth}
        for field in dataclasses.fields(cls):
            if field.name not in attributes:
                continue
            value = attributes[field.name]
            value = np.ravel(value)[0] if np.size(value) == 1 else value
            value = value.decode() if isinstance(value, bytes) else value
            try:
                found[field.name] = kinds.get(field.name, str)(value)
            except (TypeError, ValueError):
                raise XpjaxError(f"{origin}: the attribute {field.name} is {value!r}, which is no such value") from None
        try:
            return cls(**found)
        except XpjaxError as error:
            raise XpjaxError(f"{origin}: attribute {error}") from None

    def attributes(self) -> dict[str, Any]:
        """What is stated, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    def completed(self, origin: str, **stated: Unpack[Stated]) -> Meaning:
        """All that training needs, of what is known and what a caller states (None: nothing).

        Raises XpjaxError where the two differ, and where neither says what is needed.
        """
        given: dict[str, Any] = {name: value for name, value in stated.items() if value is not None}
        for name, value in given.items():
            own = getattr(self, name)
            same = own is None or (bool(np.isclose(own, value, rtol=1e-6)) if name in _DUST[1:] else own == value)
            if not same:
                raise XpjaxError(
                    f"{origin}: made with {name} {own!r}, but {_option(name, value)} was asked for; leave that out, or "
                    "give residuals that are made so"
                )
        whole = dataclasses.replace(self, **given)
        needed = ["kind", "space", "truncate"]
        if whole.kind != "multiplicative" and whole.space != "observed":
            needed += _DUST
        absent = [name for name in needed if getattr(whole, name) is None]
        if absent:
            examples = {"kind": "additive", "space": "dereddened", "truncate": False, **_USUAL}
            told = ", ".join(_option(name, examples[name]) for name in absent)
            raise XpjaxError(
                f"{origin}: the attributes {', '.join(absent)} are absent, which say how the residuals were made, and "
                f"so what a correction does; state how, as in {told}"
            )
        usual: dict[str, Any] = {name: _USUAL[name] for name in _DUST if getattr(whole, name) is None}
        return dataclasses.replace(whole, **usual)


def _truth(value: Any) -> bool:
    words = {"true": True, "false": False, "1": True, "0": False}
    return words[str(value).lower()] if str(value).lower() in words else bool(int(value))


def _option(name: str, value: Any) -> str:
    """A value as the caller states it, in Python or on the command line."""
    if name == "truncate":
        return say(f"truncate={value}", "--truncate" if value else "--no-truncate")
    return say(f"{name}={value!r}", f"--{name.replace('_', '-')} {value}")
