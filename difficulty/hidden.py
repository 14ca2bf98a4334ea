"""A prior over pass@1 from the policy model's own hidden state at the end of the prompt.

A model shows how hard it finds a question before it writes a token (Damani et al. 2024, arXiv 2410.04707, learn their
predictor on it). It costs one pass over the prompt, which is charged; a text (`apportion.difficulty.text`) costs
nothing. The model is linear in the state (`apportion.difficulty.linear`): of states wider than a regression on some
hundred prompts could bear, in their principal components.

A state means nothing to a head that was fitted on another model's, so a head knows which files its model had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apportion.difficulty.columns import read_table
from apportion.difficulty.linear import Floats, LinearPrior, fit_linear
from apportion.errors import DataError

HIDDEN = "hidden.parquet"
"""A pool's states: columns `prompt_id, hidden`; its schema's metadata name the model and the hash of its files."""

COMPONENTS = 256
"""Wider states are reduced to so many: a regression on a thousand prompts finds no more, and takes no longer."""


@dataclass(frozen=True, slots=True)
class HiddenStates:
    """The states of a pool's prompts under one model, [prompts, width]; a row is nan where it is not known.

    `files` is the hash of the model's files (`apportion.actors.fingerprint`).
    """

    model: str
    files: str
    vectors: NDArray[np.float32]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether the state of each prompt is known, [prompts]."""
        return np.asarray(np.isfinite(self.vectors).all(axis=1))

    def part(self, prompts: NDArray[np.int64]) -> HiddenStates:
        """Those of some prompts."""
        return HiddenStates(self.model, self.files, self.vectors[prompts])


@dataclass(frozen=True, slots=True)
class HiddenPrior(LinearPrior):
    """What `model`, whose files have the hash `files`, says by its state."""

    model: str
    files: str
    gain: float
    """by how much it raises the mean held-out log likelihood of a prompt's candidates"""

    def guess(self, vector: Sequence[float]) -> float:
        """Predicted pass@1 of one prompt."""
        return float(self.said(np.array([vector]))[0])


def fit_hidden(states: HiddenStates, right: Floats, tried: Floats, prior: Floats) -> HiddenPrior | None:
    """The model; None where states do not beat the dataset's prior, [POINTS], on prompts it was not fitted on.

    `right` of `tried` candidates of each prompt were right, [prompts]; those whose state is not known are left out.
    """
    known = states.known & (tried > 0)
    if not known.any():
        return None
    columns = states.vectors[known].astype(np.float64)
    if columns.shape[1] <= COMPONENTS:
        found = fit_linear(columns, right[known], tried[known], prior)
        whole = found.model
    else:
        center, scale = columns.mean(axis=0), np.maximum(columns.std(axis=0), 1e-6)
        standard = (columns - center) / scale
        axes = np.linalg.svd(standard, full_matrices=False)[2][:COMPONENTS]
        found = fit_linear(standard @ axes.T, right[known], tried[known], prior)
        whole = None if found.model is None else _unfolded(found.model, center, scale, axes)
    if whole is None:
        return None
    gain = found.with_it - found.without
    return HiddenPrior(**whole.numbers, model=states.model, files=states.files, gain=gain)


def _unfolded(model: LinearPrior, center: Floats, scale: Floats, axes: Floats) -> LinearPrior:
    """A model of components as one of the states they are made of; `axes` are [components, width]."""
    slope = np.array(model.coefficients) / np.array(model.scale)
    intercept = model.intercept - float(np.array(model.center) @ slope)
    return replace(
        model,
        center=tuple(center.tolist()),
        scale=tuple(scale.tolist()),
        coefficients=tuple((axes.T @ slope).tolist()),
        intercept=intercept,
    )


def write_hidden(folder: Path, ids: Sequence[str], states: HiddenStates) -> None:
    """Write a pool's states, those that are known."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = np.flatnonzero(states.known).tolist()
    schema = pa.schema(
        [("prompt_id", pa.string()), ("hidden", pa.list_(pa.float32()))],
        metadata={"model": states.model, "files": states.files},
    )
    rows = {"prompt_id": [ids[at] for at in known], "hidden": [states.vectors[at].tolist() for at in known]}
    beside = folder / (HIDDEN + ".tmp")
    pq.write_table(pa.table(rows, schema=schema), beside, compression="zstd")
    beside.replace(folder / HIDDEN)


def read_hidden(folder: Path, ids: Sequence[str]) -> HiddenStates | None:
    """The states of a pool's prompts; None where it has none. Raises DataError for a file that is damaged."""
    file = folder / HIDDEN
    if not file.is_file():
        return None
    table = read_table(file)
    said = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if not {"prompt_id", "hidden"} <= set(table.column_names) or not {"model", "files"} <= set(said):
        raise DataError(f"{file} lacks prompt_id, hidden or the model's name; record the pool again, or remove it")
    rows = dict(zip(map(str, table["prompt_id"].to_pylist()), table["hidden"].to_pylist(), strict=True))
    widths = {len(row) for row in rows.values()}
    if len(widths) > 1:
        raise DataError(f"{file} has hidden states of several widths, {sorted(widths)}; record the pool again")
    unknown = [np.nan] * (widths.pop() if widths else 0)
    vectors = np.array([rows.get(prompt, unknown) for prompt in ids], dtype=np.float32)
    return HiddenStates(said["model"], said["files"], vectors)
