"""The config's `arms` as `Arm`s: strategy, models, selector and amounts checked against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping

from apportion.actors.score_format import known_format
from apportion.actors.score_formats import ScoreFormat
from apportion.actors.spec import Role
from apportion.configs.keys import written_keys
from apportion.configs.models import model_config_of
from apportion.configs.rules import at_least, known_name, known_settings
from apportion.configs.schema import ArmConfig, JobConfig, ModelConfig
from apportion.errors import ConfigError, nearest
from apportion.policies.aggregate import AGGREGATES
from apportion.policies.arm import Arm
from apportion.policies.registry import SELECTORS, STRATEGIES
from apportion.policies.settings import build
from apportion.policies.strategy import Strategy, beginnings, goes_by_step, judges, needs_second, needs_steps
from apportion.types import Sampling

DEFAULT_SEPARATOR = "\n\n"
"""A blank line is what instruction-tuned models put between steps, and what process reward models are trained on."""
DEFAULT_AGGREGATE = "last"
"""What Snell et al. found best for process reward models trained on Monte-Carlo labels."""
VLLM = "vllm"
_NEED_SCORES = ("weighted", "max_score", "hierarchical")
"""Selectors that are plain majority without a verifier: asking for them without one is a mistake in the config."""
_NEED_STATISTICS = ("borda",)
_LOGPROBS_ASKED = (VLLM, "openai")
"""Engines that give a completion its statistics only where `engine_args.logprobs` says so."""


def build_arms(job: JobConfig) -> tuple[Arm, ...]:
    """Every arm, in the config's order. Raises ConfigError."""
    return tuple(_build_arm(name, arm, job.models) for name, arm in job.arms.items())


def _build_arm(name: str, config: ArmConfig, models: Mapping[str, ModelConfig]) -> Arm:
    key = f"arms.{name}"
    known_name(f"{key}.strategy", config.strategy, STRATEGIES, "strategy")
    strategy = _strategy(key, config)
    _model_of(f"{key}.policy", config.policy, Role.POLICY, models)
    if config.verifier is not None:
        _model_of(f"{key}.verifier", config.verifier, Role.SCORER, models)
        if judges(strategy):
            raise ConfigError(
                f"{key}.verifier is {config.verifier!r}, but {config.strategy} scores its responses itself, and a "
                "response has one score; remove it, or use best_of_n with this verifier"
            )
    elif strategy.needs_verifier:
        scorers = [one for one, model in models.items() if model.role == Role.SCORER.value]
        advice = f"add `verifier: {scorers[0]}`" if scorers else "add a model with `role: scorer` and name it here"
        kind = "verifier" if needs_steps(strategy) else "reward, of a verifier that may score responses as a whole"
        raise ConfigError(f"{key}.verifier is missing: {config.strategy} needs a {kind}; {advice}")
    form = _format(config.verifier, models)
    if form is not None and needs_steps(strategy) and not form.by_step:
        raise ConfigError(
            f"{key}.verifier: {config.strategy} needs a score for each step, and {config.verifier!r} is an outcome "
            "reward model, which scores a response as a whole; name a process reward model, or use best_of_n"
        )
    _check_second(key, config, strategy, models)
    known_name(f"{key}.select", config.select, SELECTORS, "selector")
    if config.verifier is None and not judges(strategy) and config.select in _NEED_SCORES:
        raise ConfigError(f"{key}.select: {config.select} needs scores, and the arm has no verifier; use majority")
    arm = Arm(
        name=name,
        strategy=strategy,
        policy=config.policy,
        verifier=config.verifier,
        select=config.select,
        aggregate=_aggregate(key, config, models, form),
        amounts=_amounts(key, config.n, strategy),
        sampling=_sampling(key, config),
        step_separator=_separator(key, config, models),
        second=config.second,
    )
    _check_sampling(key, arm)
    if arm.select in _NEED_STATISTICS:
        _check_statistics(key, arm, models)
    return arm


def _strategy(key: str, config: ArmConfig) -> Strategy:
    """The arm's strategy. What it refuses is named by the arm's key: a strategy does not know whose settings it has."""
    known_settings(key, config.settings, STRATEGIES[config.strategy], written_keys(ArmConfig))
    try:
        return build(STRATEGIES[config.strategy], config.settings, key)
    except ConfigError as error:
        own, text = f"{config.strategy}.", str(error)
        raise ConfigError(f"{key}.{text.removeprefix(own)}" if text.startswith(own) else text) from error


def _check_statistics(key: str, arm: Arm, models: Mapping[str, ModelConfig]) -> None:
    """The engines of the models that write tell how sure they were: vLLM and endpoints do where they are asked to."""
    for name in arm.writers:
        if models[name].engine in _LOGPROBS_ASKED and not models[name].engine_args.get("logprobs"):
            raise ConfigError(
                f"{key}.select: {arm.select} ranks by self-certainty, and {name!r} reports no log-probabilities; "
                f"set models.{name}.engine_args.logprobs, for example to 20, or use majority"
            )


def _check_second(key: str, config: ArmConfig, strategy: Strategy, models: Mapping[str, ModelConfig]) -> None:
    """A strategy that asks two policy models has a second one, and no other has."""
    if config.second is not None:
        if not needs_second(strategy):
            having = ", ".join(name for name, one in STRATEGIES.items() if needs_second(one))
            raise ConfigError(
                f"{key}.second is {config.second!r}, but {config.strategy} asks one policy model; remove it, or use "
                f"a strategy that asks two: {having}"
            )
        _model_of(f"{key}.second", config.second, Role.POLICY, models)
        if config.second == config.policy and not judges(strategy):
            raise ConfigError(
                f"{key}.second is {config.second!r}, the arm's policy too: {config.strategy} saves by asking a dear "
                "model only where a cheap one does not do; name another, or use best_of_n"
            )
    elif needs_second(strategy):
        others = [one for one, model in models.items() if model.role == Role.POLICY.value and one != config.policy]
        advice = f"add `second: {others[0]}`" if others else "add another policy model to models and name it here"
        raise ConfigError(f"{key}.second is missing: {config.strategy} asks a second policy model; {advice}")


def _model_of(key: str, name: str, role: Role, models: Mapping[str, ModelConfig]) -> None:
    fitting = [one for one, model in models.items() if model.role == role.value]
    if name not in models:
        raise ConfigError(f"{key}: no model is called {name!r} in models; {nearest(name, fitting)}")
    if models[name].role != role.value:
        raise ConfigError(
            f"{key}: {name!r} has the role {models[name].role}, but this needs a {role.value}; "
            f"{role.value} models: {', '.join(fitting) or 'none'}"
        )


def _format(name: str | None, models: Mapping[str, ModelConfig]) -> ScoreFormat | None:
    """The format of a verifier that vLLM runs, as far as the config and a config.json of this machine tell."""
    if name is None or models[name].engine != VLLM:
        return None
    return known_format(name, models[name].engine_args, model_config_of(f"models.{name}.model", models[name]))


def _aggregate(key: str, config: ArmConfig, models: Mapping[str, ModelConfig], form: ScoreFormat | None) -> str:
    """The arm's, else the verifier's, else the one of the verifier's format."""
    if config.aggregate is not None:
        if config.verifier is None:
            raise ConfigError(
                f"{key}.aggregate is {config.aggregate!r}, but the arm has no verifier whose step scores it could make "
                "one; name a verifier, or remove it"
            )
        return known_name(f"{key}.aggregate", config.aggregate, AGGREGATES, "aggregate")
    given = models[config.verifier].aggregate if config.verifier is not None else None
    if given is not None:
        return known_name(f"models.{config.verifier}.aggregate", given, AGGREGATES, "aggregate")
    return form.aggregate if form is not None else DEFAULT_AGGREGATE


def _amounts(key: str, amounts: list[int], strategy: Strategy) -> tuple[int, ...]:
    if not amounts:
        raise ConfigError(f"{key}.n is empty; give the amounts a purchase may have, for example [1, 2, 4, 8]")
    for n in amounts:
        at_least(f"{key}.n", n, 1)
        reason = strategy.check(n)
        if reason is not None:
            raise ConfigError(f"{key}.n: {reason}")
    return tuple(sorted(set(amounts)))


def _sampling(key: str, config: ArmConfig) -> Sampling:
    at_least(f"{key}.temperature", config.temperature, 0)
    at_least(f"{key}.max_tokens", config.max_tokens, 1)
    if not (math.isfinite(config.top_p) and 0.0 < config.top_p <= 1.0):
        raise ConfigError(f"{key}.top_p is {config.top_p:g}, but must be above 0 and at most 1")
    if "" in config.stop:
        raise ConfigError(f"{key}.stop holds an empty string, which would stop every completion at once; remove it")
    return Sampling(config.temperature, config.top_p, config.max_tokens, tuple(config.stop))


def _check_sampling(key: str, arm: Arm) -> None:
    """Responses that are to differ are drawn, and a search by step comes to see more than one."""
    if arm.sampling.temperature == 0.0:
        n = arm.amounts[-1]
        alike = beginnings(arm.strategy, n)
        if alike > 1:
            raise ConfigError(
                f"{key}.temperature is 0, where responses to one conversation are all the same, and n: {n} writes "
                f"{alike} of them; use a temperature above 0, or best_of_n with n: [1]"
            )
    for stop in arm.sampling.stop if goes_by_step(arm.strategy) else ():
        if stop in arm.step_separator:
            raise ConfigError(
                f"{key}.stop holds {stop!r}, which ends a response with its first step, and {arm.strategy.name} goes "
                "on from step to step; remove it: a search stops at step_separator by itself"
            )


def _separator(key: str, config: ArmConfig, models: Mapping[str, ModelConfig]) -> str:
    given = config.step_separator if config.step_separator is not None else models[config.policy].step_separator
    if given == "":
        raise ConfigError(f"{key}.step_separator is empty; give the text between two steps, for example '\\n\\n'")
    return given if given is not None else DEFAULT_SEPARATOR
