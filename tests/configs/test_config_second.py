"""What a config may ask of strategies with two policy models; what cannot be is refused when it is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from outcome_models import outcome_model

from apportion.configs.build import load_job
from apportion.configs.load import PACKAGED
from apportion.errors import ConfigError
from apportion.policies.registry import STRATEGIES
from apportion.scheduler.spec import JobSpec

SETTINGS: dict[str, dict[str, object]] = {
    "cascade": {"threshold": 1, "large": 2},
    "genrm": {"verdicts": 2, "verdict_temperature": 1},
    "rsd": {"threshold": 0.5},
    "spec_reason": {"threshold": 5, "score_tokens": 2},
}


def job(strategy: str, *overrides: str) -> JobSpec:
    """The quickstart with a second policy model and a strategy that asks it in the place of its beam search."""
    written = yaml.safe_load((PACKAGED / "quickstart.yaml").read_text())
    written["models"]["large"] = {**written["models"]["small"], "model": "lab:large"}
    kept = {key: written["arms"]["beam"][key] for key in ("policy", "temperature", "max_tokens")}
    written["arms"]["two"] = {**kept, "strategy": strategy, "second": "large", "n": [4, 8], **SETTINGS[strategy]}
    if STRATEGIES[strategy].needs_verifier:
        written["arms"]["two"]["verifier"] = "prm"
    del written["arms"]["beam"]
    return load_job(written, list(overrides))


@pytest.mark.parametrize("strategy", SETTINGS)
def test_is_built_with_its_settings(strategy: str) -> None:
    arm = job(strategy).arms[1]
    assert (arm.strategy.name, arm.policy, arm.second) == (strategy, "small", "large")
    assert arm.strategy == type(arm.strategy)(**SETTINGS[strategy])


@pytest.mark.parametrize("strategy", SETTINGS)
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["arms.two.second=null"],
            "arms.two.second is missing: STRATEGY asks a second policy model; add `second: large`",
        ),
        (["arms.two.second=larg"], "arms.two.second: no model is called 'larg' in models; did you mean 'large'?"),
        (["arms.two.second=prm"], "arms.two.second: 'prm' has the role scorer, but this needs a policy"),
        (["arms.two.width=4"], "unknown key 'arms.two.width' (value 4)"),
        (["arms.two.n=0"], "arms.two.n is 0"),
    ],
)
def test_what_cannot_be_is_named(strategy: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message.replace("STRATEGY", strategy))):
        job(strategy, *overrides)


def test_a_strategy_that_judges_its_responses_takes_no_verifier() -> None:
    with pytest.raises(ConfigError, match=r"two\.verifier is 'prm', but genrm scores its responses itself.*remove it"):
        job("genrm", "arms.two.verifier=prm")


def test_a_strategy_that_judges_its_responses_may_vote_by_its_scores() -> None:
    arm = job("genrm", "arms.two.select=weighted").arms[1]
    assert (arm.select, arm.verifier, arm.scored) == ("weighted", None, True)


def test_a_policy_may_judge_itself() -> None:
    assert job("genrm", "arms.two.second=small").arms[1].second == "small"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["arms.two.verdicts=0"], "arms.two.verdicts is 0; it must be 1 or more"),
        (["arms.two.verdict_tokens=0"], "arms.two.verdict_tokens is 0; it must be 1 or more"),
        (["arms.two.verdict_temperature=0"], "use verdicts: 1, or a temperature above 0"),
        (["arms.two.question=right?"], "arms.two.question lacks {problem} and {solution}"),
        (["arms.two.verdict=2"], "did you mean 'verdicts'"),
    ],
)
def test_genrm_refuses(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        job("genrm", *overrides)


@pytest.mark.parametrize("strategy", [name for name in SETTINGS if name != "genrm"])
def test_a_dear_model_that_is_the_cheap_one_saves_nothing(strategy: str) -> None:
    with pytest.raises(ConfigError, match=rf"two\.second is 'small', the arm's policy too: {strategy} saves by"):
        job(strategy, "arms.two.second=small")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["arms.two.threshold=0"], "arms.two.threshold is 0; it must be above 0 and at most 1"),
        (["arms.two.threshold=1.5"], "arms.two.threshold is 1.5; it must be above 0 and at most 1"),
        (["arms.two.large=8"], "arms.two.n: n is 4, and large is 8"),
        (["arms.two.threshold=.2"], "arms.two.n: n is 4, where the most frequent answer always has a share of 0.2"),
        (["arms.two.select=weighted"], "arms.two.select: weighted needs scores"),
    ],
)
def test_cascade_refuses(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        job("cascade", *overrides)


@pytest.mark.parametrize(
    ("strategy", "overrides", "message"),
    [
        ("spec_reason", ["arms.two.threshold=0.7"], "arms.two.threshold is 0.7; it must be an integer"),
        ("spec_reason", ["arms.two.threshold=0"], "arms.two.threshold is 0; it must be 1 to 9"),
        ("spec_reason", ["arms.two.question=ok?"], "arms.two.question lacks {problem} and {so_far} and {step}"),
        ("rsd", ["arms.two.threshold=7"], "arms.two.threshold is 7; it must be above 0 and at most 1"),
        ("rsd", ["arms.two.verifier=null"], "arms.two.verifier is missing: rsd needs a verifier; add `verifier: prm`"),
    ],
)
def test_speculation_refuses(strategy: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        job(strategy, *overrides)


def test_an_outcome_reward_model_cannot_judge_steps(tmp_path: Path) -> None:
    message = "arms.two.verifier: rsd needs a score for each step, and 'prm' is an outcome reward model"
    with pytest.raises(ConfigError, match=re.escape(message)):
        job("rsd", *outcome_model(tmp_path / "rm"))


@pytest.mark.parametrize("strategy", SETTINGS)
def test_a_vote_by_self_certainty_needs_log_probabilities_of_each_model_that_writes(strategy: str) -> None:
    asked = ["models.small.engine=vllm", "models.small.engine_args.logprobs=20", "models.large.engine=vllm"]
    if strategy == "genrm":
        assert job(strategy, *asked, "arms.two.select=borda").arms[1].select == "borda", "a judge writes no response"
        return
    message = "arms.two.select: borda ranks by self-certainty, and 'large' reports no log-probabilities"
    with pytest.raises(ConfigError, match=re.escape(message)):
        job(strategy, *asked, "arms.two.select=borda")
    asked.append("models.large.engine_args.logprobs=20")
    assert job(strategy, *asked, "arms.two.select=borda").arms[1].select == "borda"
