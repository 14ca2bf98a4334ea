"""What a command is: a name, its arguments, and what it does. Shared by all of them: exit codes and complaints."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from apportion.errors import ConfigError

if TYPE_CHECKING:
    from apportion.difficulty.pools import Pool
EXIT_OK, EXIT_ERROR, EXIT_BROKEN_PIPE, EXIT_ALL_FAILED, EXIT_INTERRUPTED = 0, 2, 1, 1, 130

PLAIN_WIDTH = 120
"""Columns of tables written to a file or a pipe, where there is no terminal to ask."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `arguments` adds its own to a parser; `execute` returns the exit code.

    `rest` is the list that positional arguments belong to which follow an option: argparse loses those.
    """

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    execute: Callable[[argparse.Namespace], int]
    rest: str = "overrides"


def config_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG and its key=value changes."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of a packaged config")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="change a key of the config, dotted")


def quiet_argument(parser: argparse.ArgumentParser) -> None:
    """-q."""
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no closing tables")


def pool_arguments(parser: argparse.ArgumentParser) -> None:
    """POOL..., folders or lab:pool/NAME; `read_pools` reads them."""
    parser.add_argument("pools", metavar="POOL", nargs="+", help="a folder with candidates.parquet, or lab:pool/NAME")


def read_pools(arguments: argparse.Namespace) -> list[Pool]:
    """The pools given, each once. Pools of one name are called as they were given, so that they can be told apart.

    Raises ConfigError for a lab name that is none, DataError for what is no pool.
    """
    from apportion.configs.models import find_file
    from apportion.difficulty.pools import read_pool

    given: dict[str, str] = {}
    for text in arguments.pools:
        given.setdefault(find_file("POOL", text), text)
    pools = [(text, read_pool(folder)) for folder, text in given.items()]
    names = Counter(pool.name for _, pool in pools)
    return [replace(pool, name=text) if names[pool.name] > 1 else pool for text, pool in pools]


def names(text: str) -> list[str]:
    """The names in a comma-separated argument."""
    return [name.strip() for name in text.split(",") if name.strip()]


def check_names(option: str, given: Sequence[str] | None) -> None:
    """Raise ConfigError for names that are none at all, or hold one twice. None stands for all."""
    if given is not None and not given:
        raise ConfigError(f"{option} is empty; give names with commas, or leave it out")
    twice = [name for name, count in Counter(given or ()).items() if count > 1]
    if twice:
        raise ConfigError(f"{option} names {twice[0]!r} twice; once is enough")


def check_writable(option: str, path: Path) -> None:
    """Raise ConfigError for a file that cannot be written: before the hours that its content takes, not after them."""
    trial = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise unwritable(option, path, error) from error


def unwritable(option: str, path: Path, error: OSError) -> ConfigError:
    """What is said of a file that an option names and that cannot be written."""
    return ConfigError(f"{option} {path} cannot be written: {error}; name another file")


@contextmanager
def terminated_is_interrupted() -> Iterator[None]:
    """SIGTERM, as `kill`, a batch system or Ray's job server sends it, ends a command as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Sending oneself a SIGINT would not do: Ray blocks it in the processes it starts.
    on_interrupt = signal.getsignal(signal.SIGINT)
    if not callable(on_interrupt):
        raise KeyboardInterrupt
    on_interrupt(signal.SIGINT, frame)


def complain(message: str) -> None:
    """A line on standard error; what came from data or a model cannot steer the terminal."""
    from apportion.scheduler.terminal import printable

    print(printable(message), file=sys.stderr)
