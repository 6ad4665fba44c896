"""What the terminal is told: progress, summaries, errors; and a report where the error is a mistake of xpjax."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shlex
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from xpjax.core.errors import XpjaxError, command_line
from xpjax.core.process import forget_programs, keep_imports, keep_memory, keep_programs

QUIET, ARGUMENTS = "xpjax.quiet", "xpjax.arguments"
"""Keys in the `meta` of click's contexts, which all contexts of a call share."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 and the number of the signal."""


# --- progress and summaries -------------------------------------------------------------------------------------------


def _be_quiet(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.meta[QUIET] = True


def quiet_option() -> click.Option:
    """The option -q of every command; what it says is not among the parameters of the command."""
    return click.Option(
        ["--quiet", "-q"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_be_quiet,
        help="No progress and no summary on standard error; errors are told.",
    )


def is_quiet() -> bool:
    """Whether the call asks for neither progress nor summaries."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(QUIET))


def tell(text: str) -> None:
    """Progress, a summary or a remark on standard error, unless the call is to be quiet."""
    if not is_quiet():
        click.echo(text, err=True)


@contextlib.contextmanager
def warnings_told() -> Iterator[None]:
    """Tell what xpjax warns of when the work is done; warnings of other kinds are passed on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning) and not _is_of_cache(warning.message):
            tell(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def bar(total: int | None = None, *, unit: str, **options: Any) -> Any:
    """A bar of progress (tqdm) on standard error; in a log file a line now and then, and none for short work."""
    from tqdm import tqdm

    terminal = sys.stderr is not None and sys.stderr.isatty()
    pace: dict[str, Any] = {"delay": 0, "mininterval": 0.1} if terminal else {"delay": 1, "mininterval": 10}
    return tqdm(total=total, unit=unit, file=sys.stderr, leave=False, disable=is_quiet(), **{**pace, **options})


# --- standard error that fails ----------------------------------------------------------------------------------------


class _Patient:
    """A text stream that takes what its file does not: a full or broken standard error is no reason to fail."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.failed = stream, False

    def write(self, text: str) -> int:
        """Write, if the stream takes it."""
        with self._trying():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if the stream can."""
        with self._trying():
            self.stream.flush()

    @contextlib.contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # ValueError: closed
            self.failed = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def patient_standard_error() -> Iterator[None]:
    """Go on where standard error is closed, full or a broken pipe; a closed one becomes the null device.

    Else the first file to be opened would get its number, and what C libraries write to standard error.
    """
    before = sys.stderr
    if before is None:
        with contextlib.suppress(OSError):
            _fill_descriptor(2)
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        yield
        return
    patient = _Patient(before)
    sys.stderr = patient
    try:
        yield
    finally:
        # A stream that has failed would fail again when Python flushes it at its end.
        sys.stderr = open(os.devnull, "w") if patient.failed else before  # noqa: SIM115


def _fill_descriptor(number: int) -> None:
    """Open the null device under a number that no file has."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        if null != number:
            os.dup2(null, number)
            os.close(null)


# --- errors -----------------------------------------------------------------------------------------------------------


class Refusal(click.ClickException):
    """One clear message and exit status 2."""

    exit_code = 2


class Bug(click.ClickException):
    """A mistake of xpjax: where the report of it lies, and exit status 1."""

    exit_code = 1

    @classmethod
    def of(cls, exc: BaseException, arguments: Sequence[str]) -> Bug:
        """What an unforeseen exception says, with its traceback and the call in a file."""
        what = traceback.format_exception_only(exc)[-1].strip().partition("\n")[0][:300]
        report = bug_report(exc, arguments)
        for folder in (Path.cwd(), Path(tempfile.gettempdir())):
            path = folder / f"xpjax-bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
            try:
                path.write_text(report)
            except OSError:
                continue
            return cls(f"this is a bug in xpjax: {what}; please send {path} with the call")
        return cls(f"this is a bug in xpjax: {what}; please send this with the call:\n{report}")


def versions(*packages: str) -> list[tuple[str, str]]:
    """The packages with their versions."""
    found = []
    for package in packages:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            found.append((package, "not installed"))
    return found


def bug_report(exc: BaseException, arguments: Sequence[str]) -> str:
    """Versions, the call and the traceback of an exception."""
    return "\n".join(
        [
            *map(" ".join, versions("xpjax", "jax", "jaxlib", "numpy", "h5py", "astropy")),
            f"python {platform.python_version()} on {platform.platform()}",
            f"call: xpjax {shlex.join(arguments)}",
            "",
            "".join(traceback.format_exception(exc)),
        ]
    )


def refusal(exc: BaseException) -> str | None:
    """What to tell of an error that the user can mend: wrong input, files, memory, devices; None for others."""
    if isinstance(exc, OSError) and exc.filename and exc.strerror:
        return f"{exc.filename}: {exc.strerror}"
    if isinstance(exc, XpjaxError | OSError):
        return str(exc) or type(exc).__name__
    if not isinstance(exc, MemoryError | RuntimeError) or isinstance(exc, NotImplementedError | RecursionError):
        return None
    text = str(exc).strip()
    lower, first = text.lower(), text.partition("\n")[0]
    if isinstance(exc, MemoryError) or "resource_exhausted" in lower or "out of memory" in lower:
        remedy = "give fewer or smaller files at once, leave out --correlation and --float64, or take --device cpu"
        return f"not enough memory ({first or type(exc).__name__}); {remedy}"
    if any(word in lower for word in ("backend", "device", "cuda", "gpu")):
        return f"{first}; choose another --device, or set JAX_PLATFORMS=cpu"
    return None


# --- the process ------------------------------------------------------------------------------------------------------


def _is_of_cache(message: Warning | str) -> bool:
    """Whether JAX warns that it could not read or write a compiled program that it keeps."""
    return bool(re.match("Error (reading|writing) persistent compilation cache", str(message)))


@contextlib.contextmanager
def settled_process() -> Iterator[None]:
    """Keep memory and compiled programs in a process that is the command line's own.

    A program that cannot be read or written costs its compiling, not the run: JAX's warnings of it are not told, and
    the programs are removed, that the next run may keep new ones.
    """
    keep_memory()
    keep_imports()
    folder = keep_programs()
    if folder is None:
        yield
        return
    failed = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def told(message: Warning | str, *arguments: Any, **options: Any) -> None:
            if _is_of_cache(message):
                failed.append(message)
            else:
                show(message, *arguments, **options)

        warnings.showwarning = told
        try:
            yield
        finally:
            if failed:
                with contextlib.suppress(OSError):
                    forget_programs(folder)


# --- the outermost command -------------------------------------------------------------------------------------------


class Group(click.Group):
    """The outermost group: tells what the user can mend in one line, and writes a report of what is a mistake of ours.

    `--debug` lets every exception through.
    """

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a call; a standard error that takes nothing is no reason to stop.

        Without arguments it is that of the process, which then is the command line's own.
        """
        own = not (arguments or options)
        with patient_standard_error(), settled_process() if own else contextlib.nullcontext():
            return super().main(*arguments, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The arguments, remembered for the report of a mistake."""
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an exception becomes `Error: ...` and exit status 2, 1 for a mistake of ours."""
        try:
            with command_line():
                return super().invoke(ctx)
        except (BrokenPipeError, click.exceptions.Exit, click.Abort, click.ClickException):
            raise  # BrokenPipeError: of `xpjax systems | head`
        except KeyboardInterrupt as exc:
            click.echo("interrupted", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from exc
        except Exception as exc:
            if ctx.params["debug"]:
                raise
            said = refusal(exc)
            if said is None:
                raise Bug.of(exc, ctx.meta[ARGUMENTS]) from exc
            raise Refusal(said) from exc


def offer_quiet(command: click.Command) -> None:
    """Let a command, and the commands of a group, be quiet."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            offer_quiet(inner)
    else:
        command.params.append(quiet_option())
