"""Jobs that look at every prompt's hidden state first: charged, journaled, paid once, refused where it is of no use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hidden_world import lab_pool

from apportion.actors.inline import InlineBackend
from apportion.configs.build import load_job
from apportion.difficulty.fit import fit_beliefs
from apportion.difficulty.pools import read_pool
from apportion.errors import BudgetError, ConfigError
from apportion.scheduler.assemble import Prepared, build_machine, looks_cost, prepare
from apportion.scheduler.calibrate import calibrate
from apportion.scheduler.driver import Driver
from apportion.scheduler.events import Dispatch, Failed, Replied
from apportion.scheduler.journal import Journal
from apportion.scheduler.looking import LOOKS, Looking
from apportion.scheduler.plan import BUDGET_MULTIPLES, plan_job
from apportion.scheduler.results import Committed
from apportion.scheduler.solve import run_job
from apportion.types import Embed, Embedded, Generate, Reply, Request, Usage

PROMPTS = 6


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fitted") / "policy.json"
    fit_beliefs(lab_pool().part(np.arange(300)), ["lab"]).save(path)
    return path


def job(output: Path, fitted: Path | None, budget: float = 4000.0, **changes: Any) -> dict[str, Any]:
    return {
        "dataset": {"path": "lab:test", "prompt": "problem", "id": "id", "reference": "answer", "limit": PROMPTS},
        "output": str(output),
        "budget": {"amount": budget, "unit": "tokens"},
        "models": {"small": {"model": "lab:small", "step_separator": "\n", "engine_args": {"prefix_cache_mb": 0}}},
        "arms": {"vote": {"strategy": "best_of_n", "policy": "small", "n": [1, 2, 4], "max_tokens": 160}},
        "difficulty": {"features": "hidden", **({} if fitted is None else {"fitted": str(fitted)})},
        "allocation": {"policy": "price"},
        "cluster": {"address": "inline"},
        "execution": {"ordered": True},
        **changes,
    }


class Recording(InlineBackend):
    """The real models; remembers what it was asked, and may break down at the first purchase."""

    def __init__(self, prepared: Prepared, breaks: bool) -> None:
        super().__init__(tuple(prepared.spec.models.values()))
        self.asked: list[Request] = []
        self.breaks = breaks

    def submit(self, request: Request, affinity: int) -> Awaitable[Reply]:
        if self.breaks and isinstance(request, Generate):
            raise KeyboardInterrupt
        self.asked.append(request)
        return super().submit(request, affinity)


def session(prepared: Prepared, path: Path, breaks: bool) -> tuple[Looking, Recording, list[Committed]]:
    """One life of a driver on the journal at `path`."""
    machine = build_machine(prepared)
    assert isinstance(machine, Looking)
    backend, done = Recording(prepared, breaks), list[Committed]()

    async def work() -> None:
        try:
            with Journal(path, {}) as journal:
                await Driver(machine, backend, journal, done.append, lambda: None, True).run()
        finally:
            await backend.close()

    if breaks:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(work())
    else:
        asyncio.run(work())
    return machine, backend, done


def test_every_prompt_is_looked_at_first_and_pays_for_it(tmp_path: Path, fitted: Path) -> None:
    spec = load_job(job(tmp_path / "run", fitted))
    prepared = prepare(spec)
    summary = run_job(spec)
    assert summary["hidden_states"] == {"read": PROMPTS, "failed": 0, "not_paid": 0, "first_error": None}
    tokens = float(prepared.prompt_tokens["small"].sum())
    assert summary["by_kind"]["embed"]["tokens"] == summary["by_arm"][LOOKS]["tokens"] == tokens
    assert looks_cost(prepared) == tokens
    assert summary["budget"]["spent"] <= 4000.0
    assert summary["spent"]["tokens"] == sum(one["tokens"] for one in summary["by_kind"].values())
    assert summary["answered"] >= 1


def test_looks_that_were_paid_for_are_not_paid_again_on_resume(tmp_path: Path, fitted: Path) -> None:
    """The driver dies between the last look and the first purchase."""
    prepared = prepare(load_job(job(tmp_path / "run", fitted)))
    _, before, _ = session(prepared, tmp_path / "j.sqlite", breaks=True)
    assert [type(one) for one in before.asked] == [Embed] * PROMPTS
    machine, after, done = session(prepared, tmp_path / "j.sqlite", breaks=False)
    assert not any(isinstance(one, Embed) for one in after.asked)
    assert len(done) == PROMPTS
    assert machine.ledger.by_kind["embed"].tokens == prepared.prompt_tokens["small"].sum()
    spent = {one.result.index: one.result.spent.tokens for one in done}
    assert all(spent[at] >= prepared.prompt_tokens["small"][at] for at in range(PROMPTS))


def test_what_states_say_is_what_the_job_believes_at_first(tmp_path: Path, fitted: Path) -> None:
    prepared = prepare(load_job(job(tmp_path / "run", fitted)))
    machine = build_machine(prepared)
    assert isinstance(machine, Looking)
    assert prepared.fitted is not None
    head = prepared.fitted.hidden
    assert head is not None
    sign = np.sign(head.coefficients)
    low, high = (tuple((np.array(head.center) + s * np.array(head.scale) * sign).tolist()) for s in (-1, 1))
    asked = [one for one in machine.start() if isinstance(one, Dispatch)]
    assert [one.request for one in asked] == [Embed("small", one.messages) for one in prepared.dataset.prompts]
    for at, dispatch in enumerate(asked):
        assert machine.price == 0.0
        machine.handle(Replied(dispatch.id, Embedded(low if at < 3 else high, Usage(50, 0, 1275, 0, 0.01))))
    assert machine._machine is not None
    believed = [machine._machine.allocation.difficulty(at) for at in range(PROMPTS)]
    assert max(believed[:3]) + 0.2 < min(believed[3:])


def test_a_look_that_fails_leaves_its_prompt_with_what_is_believed_of_any(tmp_path: Path, fitted: Path) -> None:
    prepared = prepare(load_job(job(tmp_path / "run", fitted)))
    machine = build_machine(prepared)
    assert isinstance(machine, Looking)
    asked = [one for one in machine.start() if isinstance(one, Dispatch)]
    out = [made for one in asked for made in machine.handle(Failed(one.id, "out of memory"))]
    assert machine.report() == {"read": 0, "failed": 6, "not_paid": 0, "first_error": "out of memory"}
    assert any(isinstance(one, Dispatch) and isinstance(one.request, Generate) for one in out)
    assert machine.ledger.spent == 0.0


def test_the_plan_leaves_room_for_the_looks_and_says_what_they_cost(tmp_path: Path, fitted: Path) -> None:
    spec = load_job(job(tmp_path / "run", fitted))
    tokens = float(prepare(spec).prompt_tokens["small"].sum())
    found = plan_job(spec)
    assert found.looks == tokens
    assert [one.budget for one in found.forecasts] == [4000.0 * multiple for multiple in BUDGET_MULTIPLES]
    assert all(tokens <= one.spent <= max(one.budget, tokens) for one in found.forecasts)


def test_a_recording_keeps_the_states(tmp_path: Path) -> None:
    config = job(tmp_path / "run", None, calibration={"output": str(tmp_path / "pool"), "samples": 2})
    calibrate(load_job(config))
    found = read_pool(tmp_path / "pool")
    assert found.hidden is not None
    assert found.hidden.vectors.shape == (PROMPTS, 96)
    assert np.isfinite(found.hidden.vectors).all()
    known = lab_pool().hidden
    assert known is not None
    assert found.hidden.files == known.files


def test_an_embedder_of_its_own_looks_for_a_policy_that_cannot(tmp_path: Path, fitted: Path) -> None:
    """As beside a policy that vLLM runs; its passes leave the output head out."""
    models = {
        "small": {"model": "lab:small", "step_separator": "\n"},
        "probe": {"model": "lab:small", "role": "embedder"},
    }
    given = {"features": "hidden", "model": "probe", "fitted": str(fitted)}
    spec = load_job(job(tmp_path / "run", fitted, models=models, difficulty=given))
    prepared = prepare(spec)
    summary = run_job(spec)
    assert summary["hidden_states"]["read"] == PROMPTS
    assert (
        summary["by_model"]["probe"]["tokens"] == float(prepared.prompt_tokens["probe"].sum()) == looks_cost(prepared)
    )
    profiles = prepared.meter.profiles
    assert profiles["probe"].active_parameters < profiles["small"].active_parameters
    with pytest.raises(ConfigError, match=r"arms.vote.policy: 'probe' has the role embedder"):
        load_job(
            job(tmp_path, fitted, models=models, arms={"vote": {"strategy": "best_of_n", "policy": "probe", "n": [1]}})
        )


def test_settings_that_cannot_be_honoured_are_refused(tmp_path: Path, fitted: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)says nothing without a fitted policy.*apportion calibrate"):
        build_machine(prepare(load_job(job(tmp_path, None))))
    blind = tmp_path / "blind.json"
    fit_beliefs(lab_pool().part(np.arange(20)), ["few"]).save(blind)
    with pytest.raises(ConfigError, match="learned nothing from hidden states"):
        build_machine(prepare(load_job(job(tmp_path, blind))))
    large = {"small": {"model": "lab:large", "step_separator": "\n"}}
    with pytest.raises(ConfigError, match="states of another model"):
        build_machine(prepare(load_job(job(tmp_path, fitted, models=large))))
    with pytest.raises(BudgetError, match="beside the hidden states"):
        build_machine(prepare(load_job(job(tmp_path, fitted, budget=300.0))))
    with pytest.raises(ConfigError, match=r"'esc' does not go by it"):
        build_machine(prepare(load_job(job(tmp_path, fitted, allocation={"policy": "esc"}))))
    fake = {"small": {"engine": "fake", "model": "fake"}}
    with pytest.raises(
        ConfigError, match=r"fake engine does not tell them.*features: text.*role: embedder \(embedded, vllm\)"
    ):
        load_job(job(tmp_path, fitted, models=fake))
    with pytest.raises(ConfigError, match="kind of features"):
        load_job(job(tmp_path, fitted, difficulty={"features": "hiden"}))
    with pytest.raises(ConfigError, match="policy model or embedder"):
        load_job(job(tmp_path, fitted, difficulty={"features": "hidden", "model": "smal"}))
    with pytest.raises(ConfigError, match="asks no model"):
        load_job(job(tmp_path, fitted, difficulty={"model": "small"}))
