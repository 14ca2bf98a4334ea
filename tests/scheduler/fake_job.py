"""A small job on the fake engine in a folder: job.yaml and ten prompts with references."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

CONFIG: dict[str, Any] = {
    "dataset": {"path": "d.jsonl", "prompt": "q", "reference": "a"},
    "output": "out",
    "budget": {"amount": 60, "unit": "samples"},
    "models": {"small": {"engine": "fake", "model": "x"}},
    "arms": {"vote": {"strategy": "best_of_n", "policy": "small", "n": [1, 2, 4]}},
    "cluster": {"address": "inline"},
}


def write_job(folder: Path) -> None:
    """Write it; paths are relative to the folder."""
    rows = [json.dumps({"q": f"question {i} p=0.5 answer={10 + i}", "a": 10 + i}) for i in range(10)]
    (folder / "d.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "job.yaml").write_text(yaml.safe_dump(CONFIG))
