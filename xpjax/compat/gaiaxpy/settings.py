"""How to compute: as GaiaXPy does where xpjax differs, and in which precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_strict: ContextVar[bool] = ContextVar("strict", default=False)
_float32: ContextVar[bool] = ContextVar("float32", default=False)


@contextlib.contextmanager
def strict() -> Iterator[None]:
    """Within it, GaiaXPy's own numbers, where docs/moving-from-gaiaxpy.md says that they differ."""
    token = _strict.set(True)
    try:
        yield
    finally:
        _strict.reset(token)


@contextlib.contextmanager
def float32() -> Iterator[None]:
    """Within it, spectra and photometry are computed in float32: |error of flux| <= 1e-6 sum |c_i r_i|."""
    token = _float32.set(True)
    try:
        yield
    finally:
        _float32.reset(token)


def is_strict() -> bool:
    """Whether GaiaXPy's own numbers are asked for."""
    return _strict.get()


def is_float64() -> bool:
    """Whether to compute in float64, which is the default here: GaiaXPy does."""
    return not _float32.get()
