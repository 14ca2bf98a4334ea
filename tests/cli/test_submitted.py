"""The cluster's side of a submitted job, and how a command that is terminated ends."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_recovery import events_in

from apportion.commands.submitted import missing


def job_folder(folder: Path, **files: Any) -> None:
    """What `submit` sends beside the wheel."""
    package = folder / "apportion_job"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "requirements.txt").write_text(files.get("requirements", ""))
    (package / "shipped.json").write_text(json.dumps(files.get("shipped")))
    (package / "config.yaml").write_text(yaml.safe_dump(files.get("config", {})))
    if "fitted" in files:
        (package / "fitted.json").write_text(files["fitted"])


def submitted(folder: Path) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys; sys.path.append({str(folder)!r}); from apportion.commands.submitted import main; sys.exit(main())"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


def test_what_the_clusters_python_lacks_is_named() -> None:
    needed = ["numpy>=1", "numpy>=999", "no-such-package>=1", 'no-other-package; python_version < "3"']
    found = missing(needed)
    assert list(found) == ["numpy>=999", "no-such-package>=1"]
    assert found["numpy>=999"] == importlib.metadata.version("numpy")
    assert found["no-such-package>=1"] is None


def test_a_cluster_that_lacks_a_package_is_told_what_to_install(tmp_path: Path) -> None:
    job_folder(tmp_path, requirements="no-such-package>=1\nnumpy>=999\n")
    ran = submitted(tmp_path)
    assert ran.returncode == 2
    assert "lacks what apportion needs: no-such-package>=1, numpy>=999 (has " in ran.stderr
    # The remark on what is there is no part of what pip is given.
    assert "install it on every node, for example pip install 'no-such-package>=1' 'numpy>=999', or" in ran.stderr


def test_a_path_that_did_not_travel_is_named(tmp_path: Path) -> None:
    (tmp_path / "there.jsonl").write_text("")
    job_folder(tmp_path, shipped=["there.jsonl", "gone.jsonl"])
    ran = submitted(tmp_path)
    assert ran.returncode == 2
    assert "SubmissionError: gone.jsonl did not travel with --working-dir" in ran.stderr


def test_of_many_paths_that_did_not_travel_a_few_are_named(tmp_path: Path) -> None:
    job_folder(tmp_path, shipped=[f"{at}.jsonl" for at in range(1005)])
    ran = submitted(tmp_path)
    assert "SubmissionError: 0.jsonl, 1.jsonl, 2.jsonl, 3.jsonl, 4.jsonl and 1,000 more did not travel" in ran.stderr


def small_job(folder: Path, **changes: Any) -> dict[str, Any]:
    """A config on the fake engine, slow enough to be stopped."""
    rows = [json.dumps({"prompt": f"question {i} p=0.5 answer={i}"}) for i in range(50)]
    (folder / "d.jsonl").write_text("\n".join(rows) + "\n")
    return {
        "dataset": {"path": str(folder / "d.jsonl")},
        "output": str(folder / "run"),
        "budget": {"amount": 200, "unit": "samples"},
        "models": {"small": {"engine": "fake", "model": "x", "engine_args": {"latency": 0.2}}},
        "arms": {"vote": {"strategy": "best_of_n", "policy": "small", "n": [1, 2]}},
        "execution": {"in_flight": 2},
        "cluster": {"address": "inline"},
        **changes,
    }


def test_the_config_that_was_sent_is_run(tmp_path: Path) -> None:
    few = {"dataset": {"path": str(tmp_path / "d.jsonl"), "limit": 3}}
    job_folder(tmp_path, config=small_job(tmp_path, **few), shipped=[])
    ran = submitted(tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "3 of 3 prompts answered" in ran.stdout
    assert (tmp_path / "run" / "summary.json").is_file()


def test_the_fitted_policy_that_was_sent_is_the_one_that_is_read(tmp_path: Path) -> None:
    job_folder(tmp_path, config=small_job(tmp_path), fitted="no JSON")
    ran = submitted(tmp_path)
    assert ran.returncode == 2
    assert str(tmp_path / "apportion_job" / "fitted.json") in ran.stderr


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_terminated_ends_as_with_ctrl_c(tmp_path: Path, sent: signal.Signals) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(small_job(tmp_path)))
    job = subprocess.Popen(
        [sys.executable, "-m", "apportion", "run", str(tmp_path / "job.yaml")], stderr=subprocess.PIPE, text=True
    )
    while events_in(tmp_path / "run" / "journal.sqlite") < 3:
        assert job.poll() is None, job.communicate()[1]
        time.sleep(0.05)
    job.send_signal(sent)
    _, said = job.communicate(timeout=60)
    assert job.returncode == 130
    assert "stopped; everything so far is kept" in said
    assert "Traceback" not in said
