"""Engines with shares of one GPU start one after the other; all others do not wait."""

from __future__ import annotations

import multiprocessing
import threading

import pytest

from apportion.actors.gpu_turn import turn_on_gpu
from apportion.actors.spec import ModelSpec, Role

A_MOMENT_S, LONG_S = 0.3, 60.0


def starts(gpus: float, within_s: float = LONG_S) -> bool:
    """Whether a model has started by then."""
    inside = threading.Event()

    def start() -> None:
        with turn_on_gpu(ModelSpec("m", "vllm", Role.POLICY, "m", gpus=gpus)):
            inside.set()

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    return inside.wait(within_s)


def test_a_process_that_was_forked_in_its_turn_does_not_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As vLLM's engine is, where it is not started in an actor."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "test-fork")
    child = None
    with turn_on_gpu(ModelSpec("prm", "vllm", Role.SCORER, "m", gpus=0.4)):
        child = multiprocessing.get_context("fork").Process(target=threading.Event().wait, daemon=True)
        child.start()
    try:
        assert starts(0.6)
    finally:
        child.kill()


def test_shares_of_one_gpu_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "test-0")
    with turn_on_gpu(ModelSpec("prm", "vllm", Role.SCORER, "m", gpus=0.4)):
        assert not starts(0.6, A_MOMENT_S)
        assert starts(1.0)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "test-1")
        assert starts(0.6)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "test-0")
    assert starts(0.6)
