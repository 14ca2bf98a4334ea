"""What a config says of vLLM models, checked without vLLM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from apportion.configs.build import load_job
from apportion.configs.load import PACKAGED
from apportion.errors import ConfigError
from apportion.scheduler.spec import JobSpec


def job(*overrides: str) -> JobSpec:
    return load_job("quickstart", ["models.prm.engine=vllm", *overrides])


def write_config(folder: Path, architecture: str, **config: object) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], **config}))
    return f"models.prm.model={folder}"


def test_scores_are_aggregated_as_the_formats_authors_do() -> None:
    def of(*overrides: str) -> list[str]:
        return [arm.aggregate for arm in job("models.prm.aggregate=null", *overrides).arms]

    assert of() == ["last", "last"]
    assert of("models.prm.engine_args.format=skywork") == ["mean", "mean"]
    assert of("models.prm.engine_args.format=math-shepherd") == ["min", "min"]
    assert of("models.prm.engine_args.format=skywork", "arms.beam.aggregate=product") == ["mean", "product"]
    assert of("models.prm.engine_args.format=skywork", "models.prm.aggregate=last") == ["last", "last"]


@pytest.mark.parametrize("strategy", ["beam_search", "dvts", "lookahead"])
def test_a_search_needs_scores_of_steps(tmp_path: Path, strategy: str) -> None:
    model = write_config(tmp_path / "rm", "Qwen2ForSequenceClassification", id2label={"0": "LABEL_0"})
    for override in (model, "models.prm.engine_args.format=outcome"):
        with pytest.raises(ConfigError, match=rf"arms\.beam\.verifier: {strategy} needs a score for each step"):
            job(override, f"arms.beam.strategy={strategy}")
        written = yaml.safe_load((PACKAGED / "quickstart.yaml").read_text())
        del written["arms"]["beam"]
        assert [arm.verifier for arm in load_job(written, ["models.prm.engine=vllm", override]).arms] == ["prm"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models.prm.engine_args.format=skyworks", r"no format is called 'skyworks'; did you mean 'skywork'"),
        ("models.small.engine_args.max_num_seqs=8", r"give models\.small\.max_batch instead"),
        ("models.small.engine_args.logprobs=0", r"logprobs is 0, but must be a whole number of at least 1"),
        ("models.small.engine_args.skip_tokenizer_init=true", r"cannot be set: stop strings need the tokenizer"),
    ],
)
def test_what_is_wrong_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        job("models.small.engine=vllm", override)


def test_a_scorer_of_no_known_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"architecture GemmaForCausalLM.*set engine_args\.format to one of qwen2\.5"):
        job(write_config(tmp_path / "gemma", "GemmaForCausalLM"))
    many = write_config(tmp_path / "many", "LlamaForSequenceClassification", num_labels=5)
    with pytest.raises(ConfigError, match="has 5 labels"):
        job(many)
