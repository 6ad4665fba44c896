"""Conditions on columns, written as text: `phot_g_mean_mag < 16 and bp_rp > 0.5`. Nothing is ever run."""

from __future__ import annotations

import ast
import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError

_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: np.float_power,
    ast.BitAnd: operator.and_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: np.logical_not,
    ast.And: np.logical_and,
    ast.Or: np.logical_or,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


@dataclasses.dataclass(frozen=True)
class Where:
    """A condition on columns: `parse_where` makes one, and calling it with columns (n,) gives a mask (n,)."""

    text: str
    names: tuple[str, ...]
    tree: ast.expr

    def __call__(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Which rows meet the condition; NaN meets none. Raises ValueError for what gives no mask."""
        n = len(next(iter(columns.values())))
        try:
            with np.errstate(all="ignore"):
                mask = np.asarray(self._value(self.tree, columns))
        except TypeError as exc:
            raise XpjaxError(f"where {self.text!r}: {exc}") from None
        if mask.dtype != bool or mask.shape not in ((n,), ()):
            raise XpjaxError(f"where {self.text!r}: it gives no yes or no for each source, as in bp_rp > 0.5")
        return np.broadcast_to(mask, (n,))

    def _value(self, node: ast.expr, columns: Mapping[str, np.ndarray]) -> Any:
        match node:
            case ast.Constant(value=int(number)):
                return np.int64(number)
            case ast.Constant(value=float(number)):
                return np.float64(number)
            case ast.Name(id=name):
                return columns[name]
            case ast.UnaryOp(op=op, operand=operand):
                return _OPERATORS[type(op)](self._value(operand, columns))
            case ast.BinOp(op=op, left=left, right=right):
                return _OPERATORS[type(op)](self._value(left, columns), self._value(right, columns))
            case ast.BoolOp(op=op, values=values):
                return functools.reduce(_OPERATORS[type(op)], [self._value(value, columns) for value in values])
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                terms = [self._value(term, columns) for term in (left, *comparators)]
                pairs = zip(ops, terms, terms[1:], strict=False)
                found = [
                    np.ma.filled(_OPERATORS[type(op)](a, b), False) for op, a, b in pairs
                ]  # what is masked meets none
                return functools.reduce(np.logical_and, found)
        raise AssertionError(node)  # parse_where lets nothing else through


@functools.lru_cache(maxsize=64)
def parse_where(text: str) -> Where:
    """A condition such as `phot_g_mean_mag < 16 and bp_rp > 0.5`, of column names and numbers.

    Comparisons, and, or, not, arithmetic and & (for bits) are understood; nothing is ever run. Raises ValueError for
    all else.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise XpjaxError(
            f"where {text!r}: not a condition; write one as in phot_g_mean_mag < 16 and bp_rp > 0.5"
        ) from None
    for node in ast.walk(tree):
        known = isinstance(node, ast.UnaryOp | ast.BinOp | ast.BoolOp | ast.Compare | ast.Name | ast.Load)
        number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
        if number and isinstance(node.value, int) and abs(node.value) >= 2**63:  # type: ignore[attr-defined]
            raise XpjaxError(f"where {text!r}: the number {ast.unparse(node)} has more than 64 bits")
        if not (known or number or type(node) in _OPERATORS):
            what = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
            raise XpjaxError(
                f"where {text!r}: {what!r} is not understood; a condition has column names, numbers, comparisons, "
                "and, or, not, arithmetic and &"
            )
    names = dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return Where(text, tuple(names), tree)
