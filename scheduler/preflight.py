"""Checking a job without spending: its data, its models and whether the cluster can hold them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apportion.actors.spec import ModelSpec
from apportion.errors import CapacityError
from apportion.scheduler.assemble import in_flight, prepare
from apportion.scheduler.dataset import SetAside
from apportion.scheduler.spec import JobSpec
from apportion.scheduler.terminal import amount, count, safe

SHOWN_ROWS = 20
"""Rows set aside that are listed; a run writes them all to set_aside.jsonl."""
INLINE = "inline"


@dataclass(frozen=True, slots=True)
class Node:
    """What one machine of the cluster has."""

    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's files say of it."""

    spec: ModelSpec
    parameters: float
    context: int
    prompt_tokens: float
    """mean over the prompts"""


@dataclass(frozen=True, slots=True)
class Findings:
    """What `check` found. `nodes` is None for a job that uses no cluster; `shortage` says what does not fit."""

    spec: JobSpec
    prompts: int
    set_aside: tuple[SetAside, ...]
    with_reference: int
    models: tuple[ModelFacts, ...]
    nodes: tuple[Node, ...] | None
    shortage: str | None


def check_job(spec: JobSpec, rows: Iterable[Any] | None = None) -> Findings:
    """Look at everything a job needs. Raises DataError, ModelError, ConfigError, or CapacityError for no cluster."""
    prepared = prepare(spec, rows)
    facts = tuple(
        ModelFacts(
            model,
            prepared.meter.profiles[name].active_parameters,
            prepared.meter.profiles[name].context,
            float(prepared.prompt_tokens[name].mean()),
        )
        for name, model in spec.models.items()
    )
    nodes = None if spec.cluster == INLINE else cluster_nodes(spec.cluster)
    return Findings(
        spec=spec,
        prompts=len(prepared.dataset.prompts),
        set_aside=prepared.dataset.set_aside,
        with_reference=sum(prompt.reference is not None for prompt in prepared.dataset.prompts),
        models=facts,
        nodes=nodes,
        shortage=None if nodes is None else shortage(tuple(spec.models.values()), nodes),
    )


def shortage(models: Sequence[ModelSpec], nodes: Sequence[Node]) -> str | None:
    """What the cluster lacks to hold every replica, each on one node; None where all fit.

    Largest replicas are placed first, each on the fullest node that holds it, as a placement group would be.
    """
    for kind in ("gpus", "cpus"):
        needed = sum(model.replicas * float(getattr(model, kind)) for model in models)
        there = sum(float(getattr(node, kind)) for node in nodes)
        if needed > there:
            who = ", ".join(
                f"{model.name} {model.replicas} x {getattr(model, kind):g}" for model in models if getattr(model, kind)
            )
            return f"{needed:g} {kind} are needed ({who}) and the cluster has {there:g}; lower replicas or {kind}"
    free = [[node.gpus, node.cpus] for node in nodes]
    for model in sorted(models, key=lambda one: (one.gpus, one.cpus), reverse=True):
        for _ in range(model.replicas):
            fitting = [node for node in free if node[0] >= model.gpus and node[1] >= model.cpus]
            if not fitting:
                return (
                    f"no node has {model.gpus:g} gpus and {model.cpus:g} cpus left for a replica of {model.name}, "
                    "though the cluster as a whole has enough; lower gpus or cpus a replica, or the replicas"
                )
            node = min(fitting)
            node[0] -= model.gpus
            node[1] -= model.cpus
    return None


def cluster_nodes(address: str) -> tuple[Node, ...]:
    """The nodes of a Ray cluster, or of this machine for `local`. Raises CapacityError where none can be reached."""
    import ray

    joined = not ray.is_initialized()
    if joined:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False) if (
                address == "local"
            ) else ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise CapacityError(
                f"cluster.address: no Ray cluster at {address!r} ({error}); start one with `ray start --head`, "
                "or use cluster.address=local"
            ) from error
    try:
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        if joined:
            ray.shutdown()
    return tuple(Node(float(one.get("CPU", 0.0)), float(one.get("GPU", 0.0))) for one in alive)


def render(findings: Findings) -> RenderableType:
    """The findings for people."""
    spec = findings.spec
    parts: list[RenderableType] = [
        Text(f"dataset: {findings.prompts:,} prompts, {findings.with_reference:,} with a reference"),
        Text(f"budget: {amount(spec.budget, spec.unit.value)}; allocation: {spec.allocation}"),
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
            count(facts.parameters),
            f"{facts.context:,}",
            f"{facts.prompt_tokens:,.0f}",
            str(spec.replicas),
            f"{spec.cpus:g} cpus, {spec.gpus:g} gpus",
        )
    return table


def _arms_table(spec: JobSpec) -> Table:
    table = Table(title="Arms", title_justify="left")
    for heading in ("arm", "strategy", "policy", "verifier", "select", "n"):
        table.add_column(heading)
    for arm in spec.arms:
        amounts = ", ".join(map(str, arm.amounts))
        row = (arm.name, arm.strategy.name, arm.policy, arm.verifier or "-", arm.select, amounts)
        table.add_row(*map(safe, row))
    return table


def _cluster_line(findings: Findings) -> str:
    flight = f"{in_flight(findings.spec):,} prompts in flight"
    if findings.nodes is None:
        return f"cluster: none, models run in this process; {flight}"
    cpus, gpus = sum(node.cpus for node in findings.nodes), sum(node.gpus for node in findings.nodes)
    need_cpus = sum(model.replicas * model.cpus for model in findings.spec.models.values())
    need_gpus = sum(model.replicas * model.gpus for model in findings.spec.models.values())
    nodes = f"{len(findings.nodes)} {'node' if len(findings.nodes) == 1 else 'nodes'}"
    has = f"{nodes} with {cpus:g} cpus and {gpus:g} gpus"
    return f"cluster: {has}; needed: {need_cpus:g} cpus and {need_gpus:g} gpus; {flight}"
