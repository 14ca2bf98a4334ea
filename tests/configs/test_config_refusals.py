"""What no strategy and no selector can honour is refused when the config is read, with the rule and the fix."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from outcome_models import outcome_model

from apportion.configs.build import load_job
from apportion.configs.load import PACKAGED
from apportion.errors import ConfigError, ModelError
from apportion.lab import lab_path
from apportion.policies.registry import STRATEGIES
from apportion.scheduler.spec import JobSpec

VERIFIED = sorted(
    name
    for name, strategy in STRATEGIES.items()
    if strategy.needs_verifier and not getattr(strategy, "needs_second", False)
)
BY_STEP = sorted({*VERIFIED} - {"qalign"})
ENDPOINT = ("engine=openai", "engine_args.base_url=http://127.0.0.1:1/v1", "model=x")


def job(*overrides: str, **arm: Any) -> JobSpec:
    """The quickstart with another second arm."""
    written = yaml.safe_load((PACKAGED / "quickstart.yaml").read_text())
    kept = {key: written["arms"]["beam"][key] for key in ("policy", "verifier", "temperature", "max_tokens")}
    written["arms"] = {"vote": written["arms"]["vote"], "other": {**kept, "n": [4, 16], **arm}}
    return load_job(written, list(overrides))


@pytest.mark.parametrize("strategy", VERIFIED)
def test_a_strategy_with_its_verifier_is_built(strategy: str) -> None:
    assert job(strategy=strategy).arms[1].strategy.name == strategy


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"strategy": "beam_search", "n": [4, 6]}, "n is 6, which width 4 does not divide; use n: 4 or 8"),
        (
            {"strategy": "beam_search", "width": "sqrt", "n": [8]},
            "n is 8, and width sqrt needs a square of at least 4; use n: 4 or 9",
        ),
        ({"strategy": "lookahead", "n": [9]}, "n is 9, which width 4 does not divide; use n: 8 or 12"),
        (
            {"strategy": "lookahead", "width": 3, "n": [3, 16]},
            "n is 16, which width 3 does not divide; use n: 15 or 18",
        ),
        ({"strategy": "dvts", "n": [2]}, "n is 2, which width 4 does not divide; use n: 4 or 8"),
        ({"strategy": "qalign", "n": [4, 10]}, "n is 10, which 4 chains cannot share equally; use n: 8 or 12"),
        ({"strategy": "qalign", "chains": 3, "n": [4]}, "n is 4, which 3 chains cannot share equally; use n: 3 or 6"),
        (
            {"strategy": "rebase", "n": [1]},
            "n is 1, and rebase shares its slots among at least 2 paths; use n: 2 or more",
        ),
        (
            {"strategy": "particle_filter", "n": [1]},
            "n is 1, and particle_filter shares its slots among at least 2 paths",
        ),
    ],
)
def test_an_amount_that_cannot_be_shared_out(arm: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"arms.other.n: {message}")):
        job(**arm)


@pytest.mark.parametrize("strategy", VERIFIED)
def test_a_search_without_a_verifier_and_a_chain_without_a_reward(strategy: str) -> None:
    needs = "needs a verifier" if strategy in BY_STEP else "needs a reward, of a verifier that may score responses as a"
    with pytest.raises(ConfigError, match=rf"arms\.other\.verifier is missing: {strategy} {needs}.*`verifier: prm`"):
        job(strategy=strategy, verifier=None)


@pytest.mark.parametrize("strategy", BY_STEP)
def test_a_search_with_an_outcome_reward_model(strategy: str, tmp_path: Path) -> None:
    outcome = outcome_model(tmp_path / "rm")
    with pytest.raises(
        ConfigError,
        match=rf"arms\.other\.verifier: {strategy} needs a score for each step, and 'prm' is an outcome reward model.*"
        "name a process reward model, or use best_of_n",
    ):
        job(*outcome, strategy=strategy)


def test_an_outcome_reward_model_is_reward_enough_for_a_chain(tmp_path: Path) -> None:
    assert job(*outcome_model(tmp_path / "rm"), strategy="qalign").arms[1].verifier == "prm"


@pytest.mark.parametrize("strategy", [*VERIFIED, "best_of_n", "revise"])
def test_responses_that_would_all_be_the_same(strategy: str) -> None:
    alike = 4 if strategy == "revise" else 16
    message = (
        "arms.other.temperature is 0, where responses to one conversation are all the same, and n: 16 writes "
        f"{alike} of them; use a temperature above 0, or best_of_n with n: [1]"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        job(strategy=strategy, temperature=0.0)


def test_step_scores_that_nobody_gives_are_not_made_one() -> None:
    message = "arms.other.aggregate is 'mean', but the arm has no verifier whose step scores it could make one"
    with pytest.raises(ConfigError, match=re.escape(message)):
        job(strategy="best_of_n", verifier=None, aggregate="mean")
    assert job(strategy="best_of_n", aggregate="mean").arms[1].aggregate == "mean"


@pytest.mark.parametrize("arm", [{"strategy": "best_of_n", "n": [1]}, {"strategy": "revise", "n": [4]}])
def test_one_response_at_temperature_0_and_one_chain_that_goes_on_from_it(arm: dict[str, Any]) -> None:
    assert job(temperature=0.0, **arm).arms[1].sampling.temperature == 0.0


@pytest.mark.parametrize("strategy", BY_STEP)
@pytest.mark.parametrize(("stop", "separator"), [("\n", "\n"), ("\n\n", "\n\n"), ("\n", "\n\n")])
def test_a_search_whose_responses_end_with_their_first_step(strategy: str, stop: str, separator: str) -> None:
    message = f"arms.other.stop holds {stop!r}, which ends a response with its first step"
    with pytest.raises(ConfigError, match=re.escape(message)):
        job(strategy=strategy, stop=["Q:", stop], step_separator=separator)
    assert job(strategy="best_of_n", stop=[stop], step_separator=separator).arms[1].sampling.stop == (stop,)
    assert job(strategy=strategy, stop=["\n\nQ:"], step_separator=separator).arms[1].sampling.stop == ("\n\nQ:",)


def write_folder(folder: Path, config: dict[str, Any], *tensors: str) -> Path:
    """A model folder of which the config and the header of the weights are there."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    header = json.dumps({name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for name in tensors}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


@pytest.mark.parametrize(
    ("config", "tensors"),
    [
        ({"model_type": "qwen2", "architectures": ["Qwen2ForRewardModel"]}, ("model.norm.weight", "score.weight")),
        ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, ("score.2.weight",)),
    ],
)
def test_an_embedded_verifier_that_scores_no_steps(
    config: dict[str, Any], tensors: tuple[str, ...], tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "rm", config, *tensors)
    with pytest.raises(
        ModelError, match=r"models\.prm: .*rm is no process reward model.*for example lab:prm, or run an"
    ):
        job(f"models.prm.model={folder}", strategy="beam_search")


def test_a_policy_as_an_embedded_verifier() -> None:
    with pytest.raises(ModelError, match=r"no process reward model \(model_type 'qwen2', score\.2\.weight needed\)"):
        job(f"models.prm.model={lab_path('lab:small')}", strategy="beam_search")


def test_an_endpoint_is_no_verifier() -> None:
    endpoint = [f"models.prm.{one}" for one in ENDPOINT]
    with pytest.raises(
        ConfigError, match=r"models\.prm\.engine: openai runs no scorer models; these do: embedded, vllm"
    ):
        job(*endpoint, strategy="beam_search")


@pytest.mark.parametrize("engine", [("engine=vllm",), ENDPOINT])
def test_a_vote_by_self_certainty_of_an_engine_that_reports_none(engine: tuple[str, ...]) -> None:
    model = [f"models.small.{one}" for one in engine]
    message = (
        r"arms\.other\.select: borda ranks by self-certainty, and 'small' reports no log-probabilities; "
        r"set models\.small\.engine_args\.logprobs, for example to 20, or use majority"
    )
    with pytest.raises(ConfigError, match=message):
        job(*model, strategy="best_of_n", select="borda", verifier=None)
    if engine == ("engine=vllm",):
        asked = job(*model, "models.small.engine_args.logprobs=20", strategy="best_of_n", select="borda", verifier=None)
        assert asked.arms[1].select == "borda"


def test_a_vote_by_self_certainty_needs_no_verifier() -> None:
    assert job(strategy="best_of_n", select="borda", verifier=None).arms[1].select == "borda"
