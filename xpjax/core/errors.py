"""The error of everything that a caller can mend, and remedies in the words of whoever called."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_ON_COMMAND_LINE: ContextVar[bool] = ContextVar("on_command_line", default=False)


class XpjaxError(ValueError):
    """Report wrong input, a wrong call or a file that is not what it should be.

    The message says what was found, what was expected and what to do. The command line turns the error into one line
    and exit status 2; every other exception that is neither an OSError nor lack of memory is a mistake of xpjax.

    Examples
    --------
    >>> try:
    ...     xpjax.load_system("NoSuchSystem")
    ... except xpjax.XpjaxError as error:
    ...     print("refused")
    refused
    """


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """Let messages name options of the command line in place of arguments of functions."""
    token = _ON_COMMAND_LINE.set(True)
    try:
        yield
    finally:
        _ON_COMMAND_LINE.reset(token)


def on_command_line() -> bool:
    """Whether messages name options of the command line."""
    return _ON_COMMAND_LINE.get()


def say(python: str, command: str) -> str:
    """What a message calls an argument: `overwrite=True` in Python, `--overwrite` on the command line."""
    return command if _ON_COMMAND_LINE.get() else python


def install(extra: str) -> str:
    """How to get what an extra brings, from an index of packages and in a clone."""
    return f"pip install 'xpjax[{extra}]', in a clone pip install -e '.[{extra}]'"
