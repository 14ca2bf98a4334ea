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


def test_scores_are_aggregated_as_the_formats_authors_do(tmp_path: Path) -> None:
    other = write_config(tmp_path / "rm", "Qwen2ForRewardModel")

    def of(*overrides: str) -> list[str]:
        return [arm.aggregate for arm in job("models.prm.aggregate=null", other, *overrides).arms]

    assert [arm.aggregate for arm in job("models.prm.aggregate=null").arms] == ["last", "last"]
    assert of("models.prm.engine_args.format=skywork") == ["mean", "mean"]
    shepherd = write_config(tmp_path / "shepherd", "MistralForCausalLM")
    assert of(shepherd, "models.prm.engine_args.format=math-shepherd") == ["min", "min"]
    assert of("models.prm.engine_args.format=skywork", "arms.beam.aggregate=product") == ["mean", "product"]
    assert of("models.prm.engine_args.format=skywork", "models.prm.aggregate=last") == ["last", "last"]


@pytest.mark.parametrize("strategy", ["beam_search", "dvts", "lookahead"])
def test_a_search_needs_scores_of_steps(tmp_path: Path, strategy: str) -> None:
    model = write_config(tmp_path / "rm", "Qwen2ForSequenceClassification", id2label={"0": "LABEL_0"})
    named = (write_config(tmp_path / "other", "Qwen2ForRewardModel"), "models.prm.engine_args.format=outcome")
    for overrides in ((model,), named):
        with pytest.raises(ConfigError, match=rf"arms\.beam\.verifier: {strategy} needs a score for each step"):
            job(*overrides, f"arms.beam.strategy={strategy}")
        written = yaml.safe_load((PACKAGED / "quickstart.yaml").read_text())
        del written["arms"]["beam"]
        assert [arm.verifier for arm in load_job(written, ["models.prm.engine=vllm", *overrides]).arms] == ["prm"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models.prm.engine_args.format=skyworks", r"no format is called 'skyworks'; did you mean 'skywork'"),
        ("models.small.engine_args.max_num_seqs=8", r"give models\.small\.max_batch instead"),
        ("models.small.engine_args.logprobs=0", r"logprobs is 0, but must be a whole number of at least 1"),
        ("models.small.engine_args.skip_tokenizer_init=true", r"cannot be set: stop strings need the tokenizer"),
        ("models.small.engine_args.hf_token=hf_secret", r"hf_token cannot be set: .*environment variable HF_TOKEN"),
    ],
)
def test_what_is_wrong_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        job("models.small.engine=vllm", override)


def test_a_scorer_of_no_known_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"architecture Qwen2ForRewardModel.*set engine_args\.format to one of qwen2\.5"
    ):
        job(write_config(tmp_path / "reward", "Qwen2ForRewardModel"))
    language = r"GemmaForCausalLM is a language model: `role: policy` runs it, .*no head that scores.*math-shepherd"
    with pytest.raises(ConfigError, match=language):
        job(write_config(tmp_path / "gemma", "GemmaForCausalLM"))
    many = write_config(tmp_path / "many", "LlamaForSequenceClassification", num_labels=5)
    with pytest.raises(ConfigError, match="has 5 labels"):
        job(many)


@pytest.mark.parametrize(
    ("architecture", "format", "message"),
    [
        (
            "Qwen2ForCausalLM",
            "qwen2.5-math-prm",
            r"a language model: `role: policy` runs it, and .*no head that scores",
        ),
        ("Qwen2ForCausalLM", "skywork", r"a language model: .*no head that scores"),
        ("Qwen2ForCausalLM", "outcome", r"a language model: .*no head that scores"),
        (
            "LlamaForTokenClassification",
            "math-shepherd",
            r"a classifier or reward model: .*no head that writes \+ and -",
        ),
        (
            "Qwen2ForProcessRewardModel",
            "skywork",
            r"which is written to and read as qwen2\.5-math-prm; leave format out",
        ),
        ("LlamaForSequenceClassification", "skywork", r"which is written to and read as outcome; leave format out"),
    ],
)
def test_a_format_whose_head_the_model_has_not(tmp_path: Path, architecture: str, format: str, message: str) -> None:
    """vLLM would score with a random head, or with that of another format."""
    model = write_config(tmp_path / "rm", architecture, num_labels=1)
    with pytest.raises(ConfigError, match=rf"engine_args\.format is {format}, but .* {architecture}, {message}"):
        job(model, f"models.prm.engine_args.format={format}")


@pytest.mark.parametrize(
    ("architecture", "format", "overrides"),
    [
        ("MistralForCausalLM", "math-shepherd", "{}"),
        ("Qwen2ForTokenClassification", "qwen2.5-math-prm", "{}"),
        ("Qwen2ForRewardModel", "outcome", "{}"),
        ("Qwen3ForCausalLM", "outcome", "{architectures: [Qwen3ForSequenceClassification]}"),
        ("Qwen3ForCausalLM", "outcome", "{classifier_from_token: ['no', 'yes']}"),
    ],
)
def test_a_format_that_the_model_may_have(tmp_path: Path, architecture: str, format: str, overrides: str) -> None:
    model = write_config(tmp_path / "rm", architecture, num_labels=1)
    given = (f"models.prm.engine_args.format={format}", f"models.prm.engine_args.hf_overrides={overrides}")
    assert job("arms.beam=null", model, *given).models["prm"].engine_args["format"] == format


@pytest.mark.parametrize("cached", [True, False])
def test_a_verifier_of_the_hub_is_read_as_its_folder_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    """Whether its files are here already or are fetched: the first run and the second choose alike."""
    import huggingface_hub
    import huggingface_hub.constants

    snapshot = tmp_path / "cache" / "models--some--prm" / "snapshots" / "abc"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def fetch(hub_id: str, file: str, revision: str | None = None) -> str:
        assert (hub_id, file, revision) == ("some/prm", "config.json", None)
        assert not cached
        return write_snapshot()

    def write_snapshot() -> str:
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(json.dumps({"architectures": ["Qwen2ForPrmModel"]}))
        (snapshot.parent.parent / "refs").mkdir()
        (snapshot.parent.parent / "refs" / "main").write_text("abc")
        return str(snapshot / "config.json")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    if cached:
        write_snapshot()
    for _ in range(2):
        arms = job("models.prm.aggregate=null", "models.prm.model=some/prm").arms
        assert [arm.aggregate for arm in arms] == ["mean", "mean"]
        cached = True
