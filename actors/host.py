"""One loaded model behind one method: what a replica runs, whether in this process or in an actor.

Every failure of a request leaves here as EngineError, so that callers need to know no framework's exceptions.
"""

from __future__ import annotations

import traceback
from typing import Self

from apportion.actors.protocols import Embedder, Engine, Scorer
from apportion.actors.registry import build_model
from apportion.actors.spec import ModelSpec
from apportion.errors import ApportionError, EngineError, ModelError
from apportion.types import Embed, Generate, Reply, Request, Score


class Host:
    """A model, loaded in its role."""

    def __init__(self, spec: ModelSpec, model: Engine | Scorer | Embedder) -> None:
        self._spec = spec
        self._model = model
        self._engine = model if isinstance(model, Engine) else None
        self._scorer = model if isinstance(model, Scorer) else None
        self._embedder = model if isinstance(model, Embedder) else None

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """Load the model; ConfigError and ModelError pass, whatever else stops it becomes ModelError."""
        try:
            return cls(spec, build_model(spec))
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
            if isinstance(request, Embed) and self._embedder is not None:
                return await self._embedder.embed(request)
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
            "send Generate to policies, Score to scorers, and Embed to policies of an engine that tells hidden states, "
            "or to embedders"
        )

    async def close(self) -> None:
        """Free the model."""
        await self._model.close()
