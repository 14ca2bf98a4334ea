"""An endpoint behind actors: the key is neither in a job's run directory nor in Ray's own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from endpoint_server import KEY, EndpointServer, hangs_up, refuses, says
from endpoint_world import endpoint

from apportion.configs.build import load_job
from apportion.errors import ModelError
from apportion.scheduler.solve import run_job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_job_on_actors_shows_the_key_nowhere(
    server: EndpointServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    model = endpoint(server, "chat")
    prices = {"dollars_per_million_input": 2.0, "dollars_per_million_output": 8.0}
    (tmp_path / "d.jsonl").write_text("".join(f'{{"q": "Ann has {n} boxes. She buys 3. Now?"}}\n' for n in range(6)))
    config = {
        "dataset": {"path": str(tmp_path / "d.jsonl"), "prompt": "q"},
        "output": str(tmp_path / "run"),
        "budget": {"amount": 0.05, "unit": "dollars"},
        "models": {
            "policy": {
                "engine": "openai",
                "model": model.path,
                "cpus": 0.1,
                "max_batch": 4,
                **prices,
                "engine_args": dict(model.engine_args),
            }
        },
        "arms": {"vote": {"strategy": "best_of_n", "policy": "policy", "n": [1], "max_tokens": 40}},
    }
    context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=True)
    folder = Path(context.address_info["session_dir"])
    try:
        echo = says(json.dumps({"choices": [], "sent": KEY}))
        server.script.extend([None, echo, echo, hangs_up, hangs_up, refuses(403, f"no {KEY}"), None])
        summary = run_job(load_job(config))
        assert summary["prompts"] == 6
        assert summary["failed"] >= 1
        assert 0.0 < summary["spent"]["dollars"] <= 0.05
        monkeypatch.setattr(server, "key", "another")
        with pytest.raises(ModelError, match="environment variable TEST_KEY") as caught:
            run_job(load_job({**config, "output": str(tmp_path / "more")}))
        assert KEY not in str(caught.value)
    finally:
        ray.shutdown()
    files = [file for place in (tmp_path, folder) for file in place.rglob("*") if file.is_file()]
    assert any("logs" in file.parts for file in files)
    for file in files:
        assert KEY.encode() not in file.read_bytes(), file
    assert KEY not in "".join(capfd.readouterr())
