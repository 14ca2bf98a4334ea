"""One loaded model behind one method: what a replica runs, whether in this process or in an actor.

Every failure of a request leaves here as EngineError, so that callers need to know no framework's exceptions.
"""

from __future__ import annotations

import traceback
from typing import Self

from apportion.actors.protocols import Embedder, Engine, Scorer
from apportion.actors.registry import build_engine, build_scorer
from apportion.actors.spec import ModelSpec, Role
from apportion.errors import ApportionError, EngineError, ModelError
from apportion.types import Embed, Generate, Reply, Request, Score


class Host:
    """A policy model or a scorer, loaded."""

    def __init__(self, spec: ModelSpec, engine: Engine | None, scorer: Scorer | None) -> None:
        self._spec = spec
        self._engine = engine
        self._scorer = scorer

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """Load the model; ConfigError and ModelError pass, whatever else stops it becomes ModelError."""
        try:
            if spec.role is Role.POLICY:
                return cls(spec, build_engine(spec), None)
            return cls(spec, None, build_scorer(spec))
        except ApportionError:
            raise
        except Exception as error:
            raise ModelError(
                f"models.{spec.name}: {spec.path!r} does not load with the {spec.engine} engine: "
                f"{type(error).__name__}: {error}"
            ) from error

    async def run(self, request: Request) -> Reply:
        """Answer one request, or raise EngineError."""
        try:
            if isinstance(request, Generate) and self._engine is not None:
                return await self._engine.generate(request)
            if isinstance(request, Score) and self._scorer is not None:
                return await self._scorer.score(request)
            if isinstance(request, Embed) and isinstance(self._engine, Embedder):
                return await self._engine.embed(request)
        except EngineError:
            raise
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise EngineError(
                f"model {self._spec.name!r} failed on a request: {type(error).__name__}: {error} "
                f"(in {where.name}, {where.filename}:{where.lineno})"
            ) from error
        raise EngineError(
            f"model {self._spec.name!r} has the role {self._spec.role.value} and was sent a {type(request).__name__}; "
            "send Generate to policies, Score to scorers, and Embed to policies of an engine that tells hidden states"
        )

    async def close(self) -> None:
        """Free the model."""
        for model in (self._engine, self._scorer):
            if model is not None:
                await model.close()
