"""Ends vLLM's processes when the one that started them is gone, however it went.

vLLM's engine process outlives a parent that is killed, and keeps its accelerator. So a small process of our own holds
the end of a pipe whose other end is here: when that closes, nobody is left who could use the engine.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

POLL_SECONDS = 0.5
# Between two looks for new processes, while vLLM starts them.

WATCH = """
import sys, psutil
started = dict(line.split() for line in sys.stdin)
for pid, created in started.items():
    try:
        process = psutil.Process(int(pid))
        if repr(process.create_time()) == created:
            process.kill()
    except psutil.Error:
        pass
"""
# Reads what is to be ended until its parent is gone. A number may have gone to another process meanwhile.


class Watch:
    """Of the processes that are started while it is entered. Left by an error, it ends them."""

    def __init__(self) -> None:
        self._before = self._children()
        self._told: set[tuple[int, float]] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-c", WATCH],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            # A Ctrl-C at the terminal is for its parent.
            start_new_session=True,
        )
        self._before |= {child for child in self._children() if child[0] == self._process.pid}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="vllm-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        if kind is not None:
            self.end()

    def end(self) -> None:
        """Let the watching process end what is left of the others, and itself."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _look(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        """Pass on the processes that are new."""
        new = self._children() - self._before - self._told
        self._told |= new
        if new and self._process.stdin is not None:
            self._process.stdin.write("".join(f"{pid} {created!r}\n" for pid, created in new))
            self._process.stdin.flush()

    @staticmethod
    def _children() -> set[tuple[int, float]]:
        """Number and time of creation of every process below this one."""
        import psutil

        found = set()
        for child in psutil.Process().children(recursive=True):
            try:
                found.add((child.pid, child.create_time()))
            except psutil.NoSuchProcess:
                continue
        return found
