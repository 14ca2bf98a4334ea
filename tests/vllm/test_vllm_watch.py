"""No process of an engine outlives the one that started it. Without vLLM's own, which take a minute to start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

psutil = pytest.importorskip("psutil", reason="it comes with vLLM, which is not installed")

PARENT = """
import subprocess, sys, time
from apportion.actors.vllm_watch import Watch
with Watch() as watch:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    time.sleep(0.1)
    if sys.argv[1] == "starting":
        print(child.pid, flush=True)
        time.sleep(600)
print(child.pid, flush=True)
time.sleep(600)
"""
FAILS = """
import subprocess, sys
from apportion.actors.vllm_watch import Watch
child = None
try:
    with Watch():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        raise RuntimeError("it does not fit")
except RuntimeError:
    print(child.wait())
"""
ENOUGH = 60.0


def gone(pid: int) -> bool:
    """Whether a process ends in time."""
    deadline = time.monotonic() + ENOUGH
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False


def killed_while(state: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, state], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    # One that is starting is told of within two looks.
    time.sleep(2.0 if state == "starting" else 0.0)
    assert psutil.pid_exists(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone(child)


def test_a_child_goes_with_a_killed_parent() -> None:
    killed_while("running")


def test_so_does_one_that_is_still_starting() -> None:
    killed_while("starting")


def test_what_failed_to_start_leaves_nothing_behind() -> None:
    ran = subprocess.run([sys.executable, "-c", FAILS], capture_output=True, text=True, check=True)
    assert int(ran.stdout) == -signal.SIGKILL
