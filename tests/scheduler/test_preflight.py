"""What `check` finds, without a cluster and on one."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from apportion.configs.build import load_job
from apportion.errors import CapacityError, ConfigError
from apportion.scheduler import preflight
from apportion.scheduler.preflight import SHOWN_ROWS, check_job, render

CONFIG: dict[str, Any] = {
    "dataset": {"prompt": "q", "reference": "a"},
    "output": "runs/x",
    "budget": {"amount": 60, "unit": "samples"},
    "models": {"small": {"engine": "fake", "model": "x", "cpus": 0.5}},
    "arms": {"vote": {"strategy": "best_of_n", "policy": "small", "n": [1, 2, 4]}},
    "cluster": {"address": "inline"},
}
ROWS: list[dict[str, Any]] = [{"q": f"question {i} p=0.5", "a": i if i % 2 else None} for i in range(10)]


def job(*overrides: str) -> Any:
    return load_job(CONFIG, overrides, rows_given=True)


def shown(findings: Any) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(render(findings))
    return stream.getvalue()


def test_the_data_and_models_of_a_job_without_a_cluster() -> None:
    findings = check_job(job(), [*ROWS, {"q": ""}])
    assert (findings.prompts, findings.with_reference) == (10, 5)
    assert [(row.line, row.reason) for row in findings.set_aside] == [(11, "the prompt is empty")]
    assert findings.nodes is None
    assert findings.shortage is None
    (small,) = findings.models
    assert (small.parameters, small.context) == (1e6, 4096)
    assert small.prompt_tokens > 0


@pytest.mark.parametrize("installed", [False, True])
def test_an_engine_that_is_not_installed_here_is_a_caution(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda name: installed or None)
    text = shown(check_job(job("models.small.engine=vllm", "models.small.model=lab:small"), ROWS))
    said = "caution: vLLM, which is to run models.small, is not installed here" in text
    assert said is not installed
    assert "vLLM" not in shown(check_job(job(), ROWS))


def test_a_policy_that_judges_stands_where_verifiers_do_and_one_that_writes_with_the_policy() -> None:
    two = [f"models.{name}.{key}" for name in ("judge", "large") for key in ("engine=fake", "model=x")]
    text = shown(check_job(job(*two, "arms.vote.strategy=genrm", "arms.vote.second=judge"), ROWS))
    assert re.search(r"vote \W+ genrm \W+ small \W+ judge \W+ majority", text)
    text = shown(check_job(job(*two, "arms.vote.strategy=cascade", "arms.vote.second=large", "arms.vote.n=[2]"), ROWS))
    assert re.search(r"vote \W+ cascade \W+ small, large \W+ - \W+ majority", text)


def test_a_long_list_of_bad_rows_is_cut_and_counted() -> None:
    text = shown(check_job(job(), [*ROWS, *({"q": ""} for _ in range(SHOWN_ROWS + 7))]))
    assert f"Rows set aside: {SHOWN_ROWS + 7}" in text
    assert text.count("the prompt is empty") == SHOWN_ROWS + 1
    assert "7 more, such as the prompt is empty" in text


def test_settings_of_the_allocation_are_checked_too() -> None:
    with pytest.raises(ConfigError, match="'florr'"):
        check_job(job("allocation.florr=1"), ROWS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of this process with one CPU and no GPU."""
    import ray

    ray.init(address="local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_a_cluster_that_is_large_enough() -> None:
    findings = check_job(job("cluster.address=local", "models.small.replicas=2"), ROWS)
    assert findings.shortage is None
    assert "cluster: 1 node with 1 cpus and 0 gpus; needed: 1 cpus and 0 gpus" in shown(findings)


@pytest.mark.usefixtures("cluster")
def test_more_gpus_than_the_cluster_has_are_named() -> None:
    findings = check_job(job("cluster.address=local", "models.small.gpus=2"), ROWS)
    assert findings.shortage is not None
    assert "small: 1 x (0.5 CPUs, 2 GPUs)" in findings.shortage
    assert "0 GPUs" in findings.shortage
    waited = check_job(job("cluster.address=local", "models.small.gpus=2", "cluster.wait_s=60"), ROWS)
    assert waited.shortage is None
    assert "others are waited for 60 s; needed: 0.5 cpus and 2 gpus" in shown(waited)


def test_no_cluster_at_an_address_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**_: Any) -> None:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(CapacityError, match=r"no Ray cluster answers at '127\.0\.0\.1:1'"):
        check_job(job("cluster.address=127.0.0.1:1"), ROWS)


def test_checking_reads_a_file_as_a_run_would(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    spec = load_job(CONFIG, [f"dataset.path={tmp_path / 'd.jsonl'}"])
    assert check_job(spec).prompts == 10
