"""What a config may ask of revisions; what cannot be is refused when it is read."""

from __future__ import annotations

import re

import pytest
import yaml

from apportion.configs.build import load_job
from apportion.configs.load import PACKAGED
from apportion.errors import ConfigError
from apportion.policies.revise import Revise
from apportion.scheduler.spec import JobSpec


def job(*overrides: str, **settings: object) -> JobSpec:
    """The quickstart with revisions in the place of its beam search."""
    written = yaml.safe_load((PACKAGED / "quickstart.yaml").read_text())
    del written["arms"]["beam"]["width"]
    written["arms"]["beam"] |= {"strategy": "revise", "n": [4, 16], "select": "hierarchical", **settings}
    return load_job(written, list(overrides))


def test_is_built_with_its_settings() -> None:
    arm = job(chain=2, window=1, instruction="").arms[1]
    assert arm.strategy == Revise(chain=2, window=1, instruction="")
    assert job(chain="all", n=[1, 2, 3]).arms[1].amounts == (1, 2, 3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["arms.beam.chain=1"], "arms.beam.chain is 1; it must be 2 or more, or all: an attempt alone revises nothing"),
        (["arms.beam.chain=some"], "arms.beam.chain is 'some'; it must be an integer or 'all'"),
        (["arms.beam.window=0"], "arms.beam.window is 0; it must be 1 or more"),
        (["arms.beam.n=[4,6]"], "arms.beam.n: n is 6, which is no whole number of chains of 4 attempts; use n: 4 or 8"),
        (["arms.beam.chains=4"], "unknown key 'arms.beam.chains' (value 4): did you mean 'chain'"),
        (["arms.beam.verifier=null"], "arms.beam.select: hierarchical needs scores"),
    ],
)
def test_what_cannot_be_is_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        job(*overrides)


def test_the_packaged_job_revises_as_the_lab_trained_it() -> None:
    arm = load_job("revise").arms[1]
    assert (arm.strategy, arm.policy, arm.select) == (Revise(instruction=""), "reviser", "hierarchical")
