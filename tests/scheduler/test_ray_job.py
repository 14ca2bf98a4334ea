"""A whole job on a real local Ray: the same results as in one process, and an actor killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from test_recovery import await_events, bought, finish, launch, results, write_job


def descendants(pid: int) -> dict[int, str]:
    """Processes below one, with their command lines."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    found: dict[int, str] = {}
    frontier = {pid}
    while frontier:
        below = {int(row[0]): row[2] for row in rows if int(row[1]) in frontier and int(row[0]) not in found}
        found.update(below)
        frontier = set(below)
    return found


def test_an_actor_killed_on_the_way_costs_time_and_what_was_lost_with_it(tmp_path: Path) -> None:
    (tmp_path / "quiet").mkdir()
    (tmp_path / "killed").mkdir()
    # A stopping rule under a budget that does not bind: what lost work takes of it changes no decision.
    rule: dict[str, Any] = {"allocation": {"policy": "esc"}, "budget": {"amount": 10**6, "unit": "tokens"}}
    quiet = finish(write_job(tmp_path / "quiet", **rule))
    config = write_job(tmp_path / "killed", cluster={"address": "local"}, **rule)
    job = launch(config)
    await_events(job, tmp_path / "killed" / "run" / "journal.sqlite", 20)
    started = descendants(job.pid)
    actors = [pid for pid, command in started.items() if command.startswith("ray::") and "Replica" in command]
    assert actors, "no actor of the job is running"
    os.kill(actors[0], signal.SIGKILL)
    output, _ = job.communicate(timeout=120)
    assert job.returncode == 0, output
    assert bought(tmp_path / "killed" / "run") == bought(tmp_path / "quiet" / "run")
    killed = json.loads((tmp_path / "killed" / "run" / "summary.json").read_text())
    assert killed["spent"]["tokens"] - killed["lost"]["tokens"] == pytest.approx(quiet["spent"]["tokens"])
    charged = sum(row["spent"]["tokens"] for row in results(tmp_path / "killed" / "run"))
    assert charged == pytest.approx(killed["spent"]["tokens"])


def test_a_killed_driver_leaves_no_process_behind(tmp_path: Path) -> None:
    config = write_job(tmp_path, cluster={"address": "local"})
    job = launch(config)
    await_events(job, tmp_path / "run" / "journal.sqlite", 5)
    # Ray's own two agents look for their server for about a minute before they go; the models must not stay.
    started = {pid: name for pid, name in descendants(job.pid).items() if not name.endswith("Agent")}
    assert any("Replica" in name for name in started.values())
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    left = set(started)
    for _ in range(600):
        left = {pid for pid in left if Path(f"/proc/{pid}").exists() and not _is_zombie(pid)}
        if not left:
            break
        time.sleep(0.1)
    assert not left, {pid: started[pid] for pid in left}
    assert finish(config)["answered"] == len(results(tmp_path / "run"))


def _is_zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
