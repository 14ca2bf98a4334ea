"""Checking a job without spending or writing: its data, output and models, and whether the cluster can hold them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apportion.actors.backends import INLINE
from apportion.actors.cluster import connect, disconnect
from apportion.actors.placement import Need, Node, cluster_nodes, shortage
from apportion.actors.registry import kind_of
from apportion.actors.spec import ModelSpec
from apportion.configs.arms import VLLM
from apportion.scheduler.assemble import build_costs, build_policy, in_flight, prepare
from apportion.scheduler.cautions import job_cautions
from apportion.scheduler.claim import begins, check_place
from apportion.scheduler.dataset import SetAside
from apportion.scheduler.spec import JobSpec
from apportion.scheduler.store import Store
from apportion.scheduler.terminal import amount, count, safe, several

SHOWN_ROWS = 20
"""Rows set aside that are listed; a run writes them all to set_aside.jsonl."""

UNKNOWN = "unknown"
"""Shown of a model behind an endpoint that does not tell."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's files say of it."""

    spec: ModelSpec
    parameters: float
    context: int
    prompt_tokens: float
    """mean over the prompts"""
    exact: bool = True
    """whether tokens are counted; else they are bounded, and the context is not known"""


@dataclass(frozen=True, slots=True)
class Findings:
    """What `check` found. `nodes` is None for a job that uses no cluster; `shortage` says what does not fit and is not
    waited for. `cautions` are about the fitted policy and about engines that are not installed here."""

    spec: JobSpec
    prompts: int
    set_aside: tuple[SetAside, ...]
    with_reference: int
    models: tuple[ModelFacts, ...]
    nodes: tuple[Node, ...] | None
    shortage: str | None
    cautions: tuple[str, ...] = ()


def check_job(spec: JobSpec, rows: Iterable[Any] | None = None) -> Findings:
    """Look at everything a job needs. Raises DataError, ModelError, ConfigError, RunDirectoryError, or CapacityError
    for no cluster.

    Models behind an endpoint are asked for, once.
    """
    prepared = prepare(spec, rows)
    build_policy(prepared, build_costs(prepared))
    _check_output(spec, prepared.dataset.fingerprint)
    for model in spec.models.values():
        look = kind_of(model).reach
        if look is not None:
            look(model)
    facts = tuple(
        ModelFacts(
            model,
            prepared.meter.profiles[name].active_parameters,
            prepared.meter.profiles[name].context,
            float(prepared.prompt_tokens[name].mean()),
            prepared.meter.profiles[name].exact_counts,
        )
        for name, model in spec.models.items()
    )
    nodes = None if spec.cluster == INLINE else _nodes(spec)
    needs = [Need.of(model) for model in spec.models.values()]
    return Findings(
        spec=spec,
        prompts=len(prepared.dataset.prompts),
        set_aside=prepared.dataset.set_aside,
        with_reference=sum(prompt.reference is not None for prompt in prepared.dataset.prompts),
        models=facts,
        nodes=nodes,
        cautions=(*job_cautions(prepared), *_absent(spec.models.values()), *_without_gpu(spec)),
        shortage=None if nodes is None or spec.cluster_wait_s > 0 else shortage(needs, nodes),
    )


def _check_output(spec: JobSpec, fingerprint: str) -> None:
    """Whether a run could write its output. Of a URL only that it could be reached: what is there, its job looks at."""
    if spec.publish is not None:
        Store(spec.publish)
        return
    check_place(spec.output)
    begins(spec.output, spec.resolved, fingerprint, Path(spec.fitted) if spec.fitted is not None else None)


def _without_gpu(spec: JobSpec) -> Iterator[str]:
    """Models that ask for GPUs in a job that runs in this process, which reserves none, where there is none."""
    names = [f"models.{name}" for name, model in spec.models.items() if model.gpus > 0]
    if spec.cluster != INLINE or not names:
        return
    import torch

    if not torch.cuda.is_available():
        yield (
            f"{' and '.join(names)} asks for gpus, and there is none here: cluster.address=inline runs models in this "
            "process, on the CPU where their engine can; a Ray cluster's address has GPUs reserved"
        )


def _absent(models: Iterable[ModelSpec]) -> Iterator[str]:
    """What is not installed on this machine; no more than a caution, since replicas may run on others."""
    names = [f"models.{model.name}" for model in models if model.engine == VLLM]
    if names and find_spec(VLLM) is None:
        yield (
            f"vLLM, which is to run {' and '.join(names)}, is not installed here: it must be wherever their replicas "
            "run; install apportion[vllm] there"
        )


def _nodes(spec: JobSpec) -> tuple[Node, ...]:
    """The nodes a job would run on: those of the cluster it names, or this machine as a Ray of our own sees it."""
    here = connect(spec.cluster, [Need.of(model) for model in spec.models.values()])
    try:
        return tuple(cluster_nodes())
    finally:
        if here:
            disconnect()


def render(findings: Findings) -> RenderableType:
    """The findings for people."""
    spec = findings.spec
    parts: list[RenderableType] = [
        Text(f"dataset: {several(findings.prompts, 'prompt')}, {findings.with_reference:,} with a reference"),
        Text(f"budget: {amount(spec.budget, spec.unit.value)}; allocation: {spec.allocation}"),
        *(safe(f"caution: {caution}") for caution in findings.cautions),
        _rows_table(findings),
        Text(),
        _models_table(findings),
        Text(),
        _arms_table(spec),
        Text(),
        Text(_cluster_line(findings)),
    ]
    return Group(*parts)


def _rows_table(findings: Findings) -> RenderableType:
    if not findings.set_aside:
        return Text("rows set aside: none")
    table = Table(title=f"Rows set aside: {len(findings.set_aside):,}", title_justify="left")
    for heading in ("line", "id", "reason"):
        table.add_column(heading, justify="right" if heading == "line" else "left", overflow="fold")
    for row in findings.set_aside[:SHOWN_ROWS]:
        table.add_row(str(row.line), safe(row.id or "-"), safe(row.reason))
    if len(findings.set_aside) > SHOWN_ROWS:
        kinds = Counter(row.reason.split(":")[0].split(",")[0] for row in findings.set_aside[SHOWN_ROWS:])
        table.add_row("...", "", safe(f"{kinds.total():,} more, such as {kinds.most_common(1)[0][0]}"))
    return table


def _models_table(findings: Findings) -> Table:
    table = Table(title="Models", title_justify="left")
    for heading in ("model", "role", "engine", "parameters", "context", "mean prompt", "replicas", "each"):
        table.add_column(heading, justify="left" if heading in ("model", "role", "engine") else "right")
    for facts in findings.models:
        spec = facts.spec
        table.add_row(
            safe(spec.name),
            spec.role.value,
            spec.engine,
            count(facts.parameters) if facts.parameters else UNKNOWN,
            f"{facts.context:,}" if facts.exact else UNKNOWN,
            f"{facts.prompt_tokens:,.0f}" if facts.exact else f"at most {facts.prompt_tokens:,.0f}",
            str(spec.replicas) if spec.least_replicas is None else f"{spec.least_replicas} to {spec.replicas}",
            f"{spec.cpus:g} cpus, {spec.gpus:g} gpus",
        )
    return table


def _arms_table(spec: JobSpec) -> Table:
    table = Table(title="Arms", title_justify="left")
    for heading in ("arm", "strategy", "policy", "verifier", "select", "n"):
        table.add_column(heading)
    for arm in spec.arms:
        amounts = ", ".join(map(str, arm.amounts))
        row = (arm.name, arm.strategy.name, ", ".join(arm.writers), arm.judge or "-", arm.select, amounts)
        table.add_row(*map(safe, row))
    return table


def _cluster_line(findings: Findings) -> str:
    spec = findings.spec
    flight = f"{several(in_flight(spec), 'prompt')} in flight"
    if findings.nodes is None:
        return f"cluster: none, models run in this process; {flight}"
    cpus, gpus = sum(node.cpus for node in findings.nodes), sum(node.gpus for node in findings.nodes)
    needs = [Need.of(model) for model in spec.models.values()]
    need_cpus = sum(need.required * need.cpus for need in needs)
    need_gpus = sum(need.required * need.gpus for need in needs)
    nodes = f"{len(findings.nodes)} {'node' if len(findings.nodes) == 1 else 'nodes'}"
    has = f"{nodes} with {cpus:g} cpus and {gpus:g} gpus"
    if spec.cluster_wait_s > 0:
        has += f", and others are waited for {spec.cluster_wait_s:g} s"
    return f"cluster: {has}; needed: {need_cpus:g} cpus and {need_gpus:g} gpus; {flight}"
