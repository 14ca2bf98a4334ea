"""A whole job whose models all run on vLLM."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from vllm_world import write_model

pytestmark = pytest.mark.timeout(900)


def test_quickstart_on_vllm(tmp_path: Path) -> None:
    settings = ["models.small.engine=vllm", "models.prm.engine=vllm", "dataset.limit=12", "budget.amount=3e10"]
    command = [sys.executable, "-m", "apportion", "run", "quickstart", *settings]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    folder = tmp_path / "runs" / "quickstart"
    summary = json.loads((folder / "summary.json").read_text())
    results = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert summary["prompts"] == len(results) == 12
    assert 0.0 < summary["budget"]["spent"] <= 3e10
    assert summary["budget"]["overrun"] == 0.0
    # What all prompts were charged is what was spent, in the budget's unit and in time.
    assert math.fsum(row["spent"]["flops"] for row in results) == summary["budget"]["spent"]
    assert all(row["spent"]["gpu_seconds"] > 0.0 for row in results if row["spent"]["flops"])
    assert sum(row["answer"] is not None for row in results) > 6


def test_an_outcome_reward_model_ranks_whole_responses(tmp_path: Path) -> None:
    folder = write_model(
        tmp_path / "outcome", "Qwen2ForSequenceClassification", "qwen2", num_labels=1, max_position_embeddings=1024
    )
    settings = ["models.prm.engine=vllm", f"models.prm.model={folder}", "arms.beam=null", "arms.vote.n=[4]"]
    settings += ["arms.vote.verifier=prm", "arms.vote.select=weighted", "dataset.limit=6", "budget.amount=1e12"]
    command = [sys.executable, "-m", "apportion", "run", "quickstart", *settings, "allocation.policy=uniform"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    results = [
        json.loads(line) for line in (tmp_path / "runs" / "quickstart" / "results.jsonl").read_text().splitlines()
    ]
    assert [row["error"] for row in results] == [None] * 6
    assert any(len(row["response"].strip().splitlines()) > 1 for row in results), "no response had several steps"
