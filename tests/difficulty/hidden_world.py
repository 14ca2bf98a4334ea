"""Real hidden states of lab:small at the end of lab prompts, with what was recorded of the prompts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache

import numpy as np

from apportion.actors.embedded import build_engine
from apportion.actors.fingerprint import files_hash
from apportion.actors.spec import ModelSpec, Role
from apportion.difficulty.hidden import HiddenStates
from apportion.difficulty.pools import Pool, read_pool
from apportion.lab import lab_path
from apportion.types import Embed, Embedded, Message

SMALL = ModelSpec("small", "embedded", Role.POLICY, str(lab_path("lab:small")))
PROMPTS = 420


async def _read(texts: list[str]) -> list[Embedded]:
    engine = build_engine(SMALL)
    try:
        return list(await asyncio.gather(*(engine.embed(Embed("small", (Message("user", one),))) for one in texts)))
    finally:
        await engine.close()


@cache
def lab_pool() -> Pool:
    """The first prompts of lab:pool/calibration, the arm `small` alone, with their hidden states."""
    pool = read_pool(lab_path("lab:pool/calibration")).only(["small"]).part(np.arange(PROMPTS))
    vectors = np.array([one.vector for one in asyncio.run(_read(pool.texts))], dtype=np.float32)
    return replace(pool, hidden=HiddenStates("small", files_hash(lab_path("lab:small")), vectors))
