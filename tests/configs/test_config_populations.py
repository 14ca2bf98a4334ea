"""What a config may ask of searches that keep a population; what cannot be is refused when it is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from outcome_models import outcome_model

from apportion.configs.build import load_job
from apportion.configs.load import PACKAGED
from apportion.errors import ConfigError
from apportion.scheduler.spec import JobSpec


def job(strategy: str, *overrides: str, **settings: object) -> JobSpec:
    """The quickstart with another search in the place of its beam search."""
    written = yaml.safe_load((PACKAGED / "quickstart.yaml").read_text())
    del written["arms"]["beam"]["width"]
    written["arms"]["beam"] |= {"strategy": strategy, "n": [2, 6, 16], **settings}
    return load_job(written, list(overrides))


@pytest.mark.parametrize("strategy", ["rebase", "particle_filter"])
def test_is_built_with_its_settings(strategy: str) -> None:
    arm = job(strategy, softmax_temperature=1, depth=9, aggregate_search="min").arms[1]
    assert (arm.strategy.name, arm.amounts, arm.sampling.temperature) == (strategy, (2, 6, 16), 0.8)
    assert str(arm.strategy) == str(type(arm.strategy)(softmax_temperature=1.0, depth=9, aggregate_search="min"))


@pytest.mark.parametrize("strategy", ["rebase", "particle_filter"])
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["arms.beam.softmax_temperature=0"], "arms.beam.softmax_temperature is 0; it must be above 0"),
        (["arms.beam.softmax_temperature=.nan"], "arms.beam.softmax_temperature is nan; it must be above 0 and finite"),
        (["arms.beam.depth=0"], "arms.beam.depth is 0; it must be 1 or more"),
        (["arms.beam.width=4"], "unknown key 'arms.beam.width' (value 4)"),
        (["arms.beam.n=[1,4]"], "arms.beam.n: n is 1, and STRATEGY shares its slots among at least 2 paths"),
        (["arms.beam.verifier=null"], "arms.beam.verifier is missing: STRATEGY needs a verifier; add `verifier: prm`"),
    ],
)
def test_what_cannot_be_is_named(strategy: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message.replace("STRATEGY", strategy))):
        job(strategy, *overrides)


@pytest.mark.parametrize("strategy", ["rebase", "particle_filter"])
def test_an_outcome_reward_model_does_not_do(strategy: str, tmp_path: Path) -> None:
    message = f"arms.beam.verifier: {strategy} needs a score for each step, and 'prm' is an outcome reward model"
    with pytest.raises(ConfigError, match=re.escape(message)):
        job(strategy, *outcome_model(tmp_path / "rm"))
