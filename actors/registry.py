"""Which engines there are: one row a name. A new engine is a module and a row here.

Rows import their modules when used, so that the driver can read this table without importing a framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from apportion.actors.protocols import Describer, Embedder, Engine, Scorer
from apportion.actors.spec import ModelSpec, Role
from apportion.costs import Unit
from apportion.errors import ConfigError, nearest

if TYPE_CHECKING:
    from apportion.actors.embedded import EmbeddedEngine

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EngineKind:
    """How one kind of engine is built, by role, and how its models are described without loading them.

    `check` raises ConfigError or ModelError for what a job's config, and a model's folder where it is here, show to be
    wrong: the model, the budget's unit, and whether some strategy continues text, and does so by steps. `reach` raises
    ModelError where a model that lies elsewhere cannot be used; it may ask, and must cost next to nothing. `embeds` is
    whether its engine of policy models is an Embedder too.
    """

    policy: Callable[[ModelSpec], Engine] | None
    scorer: Callable[[ModelSpec], Scorer] | None
    embedder: Callable[[ModelSpec], Embedder] | None
    describe: Callable[[ModelSpec], Describer]
    check: Callable[[ModelSpec, Unit, bool, bool], None] | None = None
    reach: Callable[[ModelSpec], None] | None = None
    embeds: bool = False

    def runs(self, role: Role) -> bool:
        """Whether it runs models of a role."""
        return {Role.POLICY: self.policy, Role.SCORER: self.scorer, Role.EMBEDDER: self.embedder}[role] is not None


def _embedded_engine(spec: ModelSpec) -> EmbeddedEngine:
    from apportion.actors.embedded import build_engine

    return build_engine(spec)


def _embedded_scorer(spec: ModelSpec) -> Scorer:
    from apportion.actors.prm import build_scorer

    return build_scorer(spec)


def _check_embedded(spec: ModelSpec, unit: Unit, prefixes: bool, steps: bool) -> None:
    from apportion.actors.describe import check_role

    check_role(spec)
    if spec.engine_args:
        # It imports torch, which takes seconds: only where there is something to read.
        from apportion.actors.embedded import EmbeddedSettings

        EmbeddedSettings.of(spec)


def _describe_folder(spec: ModelSpec) -> Describer:
    from apportion.actors.describe import describe

    return describe(spec)


def _endpoint_engine(spec: ModelSpec) -> Engine:
    from apportion.actors.endpoint import build_engine

    return build_engine(spec)


def _describe_endpoint(spec: ModelSpec) -> Describer:
    from apportion.actors.endpoint_describe import describe

    return describe(spec)


def _check_endpoint(spec: ModelSpec, unit: Unit, prefixes: bool, steps: bool) -> None:
    from apportion.actors.endpoint_settings import check

    check(spec, unit, prefixes, steps)


def _reach_endpoint(spec: ModelSpec) -> None:
    from apportion.actors.endpoint_reach import reach

    reach(spec)


def _vllm_engine(spec: ModelSpec) -> Engine:
    from apportion.actors.vllm_engine import build_engine

    return build_engine(spec)


def _vllm_scorer(spec: ModelSpec) -> Scorer:
    from apportion.actors.vllm_scorer import build_scorer

    return build_scorer(spec)


def _vllm_embedder(spec: ModelSpec) -> Embedder:
    from apportion.actors.vllm_embedder import build_embedder

    return build_embedder(spec)


def _describe_vllm(spec: ModelSpec) -> Describer:
    from apportion.actors.vllm_describe import describe

    return describe(spec)


def _check_vllm(spec: ModelSpec, unit: Unit, prefixes: bool, steps: bool) -> None:
    from apportion.actors.vllm_describe import check

    check(spec)


def _fake_engine(spec: ModelSpec) -> Engine:
    from apportion.actors.fake import build_engine

    return build_engine(spec)


def _fake_scorer(spec: ModelSpec) -> Scorer:
    from apportion.actors.fake import build_scorer

    return build_scorer(spec)


def _describe_fake(spec: ModelSpec) -> Describer:
    from apportion.actors.fake import describe

    return describe(spec)


ENGINES: Mapping[str, EngineKind] = {
    "embedded": EngineKind(
        _embedded_engine, _embedded_scorer, _embedded_engine, _describe_folder, _check_embedded, embeds=True
    ),
    "vllm": EngineKind(_vllm_engine, _vllm_scorer, _vllm_embedder, _describe_vllm, _check_vllm),
    "openai": EngineKind(_endpoint_engine, None, None, _describe_endpoint, _check_endpoint, _reach_endpoint),
    "fake": EngineKind(_fake_engine, _fake_scorer, None, _describe_fake),
}


def kind_of(spec: ModelSpec) -> EngineKind:
    """The row of a model's engine, or ConfigError."""
    kind = ENGINES.get(spec.engine)
    if kind is None:
        raise ConfigError(
            f"models.{spec.name}.engine: no engine is called {spec.engine!r}; {nearest(spec.engine, ENGINES)}"
        )
    return kind


def build_engine(spec: ModelSpec) -> Engine:
    """Load a policy model, in the process that will run it. Raises ConfigError where its engine runs none."""
    return _known(spec, Role.POLICY, kind_of(spec).policy)(spec)


def build_scorer(spec: ModelSpec) -> Scorer:
    """Load a verifier, in the process that will run it. Raises ConfigError where its engine runs none."""
    return _known(spec, Role.SCORER, kind_of(spec).scorer)(spec)


def build_embedder(spec: ModelSpec) -> Embedder:
    """Load a model that only tells its hidden state. Raises ConfigError where its engine tells none."""
    return _known(spec, Role.EMBEDDER, kind_of(spec).embedder)(spec)


def build_model(spec: ModelSpec) -> Engine | Scorer | Embedder:
    """Load a model in its role. Raises ConfigError where its engine runs none of that role."""
    if spec.role is Role.POLICY:
        return build_engine(spec)
    return build_scorer(spec) if spec.role is Role.SCORER else build_embedder(spec)


def engines_for(role: Role) -> list[str]:
    """The engines that run models of a role."""
    return [name for name, kind in ENGINES.items() if kind.runs(role)]


def _known(spec: ModelSpec, role: Role, build: Callable[[ModelSpec], T] | None) -> Callable[[ModelSpec], T]:
    if build is None:
        able = ", ".join(engines_for(role))
        raise ConfigError(f"models.{spec.name}.engine: {spec.engine} runs no {role} models; these do: {able}")
    return build


def describe(spec: ModelSpec) -> Describer:
    """The driver-side view of a model; safe to build without an accelerator."""
    return kind_of(spec).describe(spec)
