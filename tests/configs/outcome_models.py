"""An outcome reward model, as far as configs look at one."""

from __future__ import annotations

import json
from pathlib import Path


def outcome_model(folder: Path) -> tuple[str, str]:
    """Overrides that make the verifier an outcome reward model, written to a new folder."""
    folder.mkdir()
    config = {"architectures": ["LlamaForSequenceClassification"], "num_labels": 1}
    (folder / "config.json").write_text(json.dumps(config))
    return "models.prm.engine=vllm", f"models.prm.model={folder}"
