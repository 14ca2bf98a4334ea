"""The shape of a job's YAML, as structured OmegaConf dataclasses: every key, its type and its default.

`???` marks a key that must be given. A strategy's, an allocation policy's and an answer type's own settings are written
beside the keys listed here; `apportion.configs.load` moves them into `settings` before the types are checked, and the
class they belong to checks them when the job is built.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class DatasetConfig:
    """Where the prompts are, and which columns to read."""

    path: str | None = None
    """JSONL or Parquet: a file, a folder or a glob, local or any fsspec URL (a folder's ends in /); `lab:test` is the
    test set that ships with the package. Not needed where rows are handed over in Python"""
    prompt: str = "prompt"
    """column with the text, or with a list of {role, content} messages"""
    id: str | None = None
    """column with a unique id; without it a row is named by its number"""
    reference: str | None = None
    """column with the right answer: used to report accuracy, never to decide"""
    system: str | None = None
    """a system message for every conversation that has none of its own"""
    limit: int | None = None
    """read no more rows than this"""


@dataclass
class BudgetConfig:
    """What the whole job may spend."""

    amount: float = MISSING
    unit: str = MISSING
    """tokens, flops, gpu_seconds, dollars or samples"""


@dataclass
class ObjectiveConfig:
    """What the job is after; a name alone may be written in the place of the mapping."""

    name: str = "accuracy"
    """accuracy, coverage, quota or pairs"""
    k: int | None = None
    """of quota: accepted candidates each prompt shall have; of pairs: pairs of an accepted and a rejected one (1)"""
    accept: float | None = None
    """of quota and pairs: the least score of an accepted candidate (0.5)"""


@dataclass
class ModelConfig:
    """One model; `models` names them."""

    model: str = MISSING
    """a folder, a hub id where the engine takes one, or lab:NAME"""
    engine: str = "embedded"
    role: str = "policy"
    """policy (it writes), scorer (it scores steps), or embedder (it tells hidden states, see difficulty.features)"""
    replicas: Any = 1
    """how many, or {min: 1, max: 4}: the job runs with as many of these as the cluster holds, while it runs"""
    cpus: float = 1.0
    """CPUs reserved for each replica"""
    gpus: float | None = None
    """whole GPUs reserved for each replica; tensor_parallel unless given, else 0"""
    gpu_fraction: float | None = None
    """instead of gpus: the share of one GPU that a replica takes; replicas of other models whose shares fit beside it
    are put on the same GPU, as a policy and its verifier"""
    tensor_parallel: int | None = None
    """GPUs that one replica of the model is split over; they are on one node"""
    timeout_s: float = 1800.0
    """a request takes no longer than this, waiting for its turn on the replica included: a replica that is silent for
    so long is replaced, and its requests are sent again. Replicas that lag far behind others are noticed sooner"""
    load_timeout_s: float = 7200.0
    """loading takes no longer, a download included: a replica that is not up then is stopped, and counts as one that
    does not load"""
    aggregate: str | None = None
    """of a scorer: how step scores become one score, unless the arm says otherwise; what the authors of its format
    use unless given, else last"""
    max_batch: int = 256
    """sequences one replica runs at once"""
    step_separator: str | None = None
    """of a policy: what it writes between two steps; a blank line unless given"""
    dollars_per_hour: float = 0.0
    dollars_per_million_input: float = 0.0
    dollars_per_million_output: float = 0.0
    engine_args: dict[str, Any] = field(default_factory=dict)
    """given to the engine as they are"""


@dataclass
class ArmConfig:
    """One arm; `arms` names them. The strategy's own settings, such as width, are written beside these keys."""

    strategy: str = MISSING
    policy: str = MISSING
    """name of the model that writes"""
    n: list[int] = MISSING
    """the amounts one purchase may have; a single number is one amount"""
    verifier: str | None = None
    """name of the model that scores"""
    second: str | None = None
    """name of another model that writes, for strategies that ask two: cascade, genrm, spec_reason"""
    select: str = "majority"
    aggregate: str | None = None
    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 2048
    """bound of one completion"""
    stop: list[str] = field(default_factory=list)
    step_separator: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class DifficultyConfig:
    """How hard prompts are taken to be before and while they are tried."""

    probe: int = 4
    """the first purchase of a prompt has at most so many samples, where its arm sells so few at once; at least 1"""
    fitted: str | None = None
    """a fitted policy file, or the name of one that ships with the package"""
    features: str = "text"
    """what a fitted policy goes by before a prompt is tried: its text, which is free, or hidden: a policy model's
    hidden state at the end of the prompt, one pass over it, charged. `apportion calibrate` records the states so"""
    model: str | None = None
    """of features: hidden, the policy model or embedder whose state it is; the first arm's policy unless given"""


@dataclass
class AllocationConfig:
    """Who gets how much. The policy's own settings are written beside `policy`."""

    policy: str = "price"
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class CalibrationConfig:
    """What `apportion calibrate` records of this config's arms; a run has no use for it."""

    output: str | None = None
    """the folder of the pool"""
    samples: int = 16
    """candidates of each arm for each prompt; a search buys each of its amounts n once instead"""
    budget: float | None = None
    """what recording may spend, in budget.unit; budget.amount unless given"""


@dataclass
class AnswerConfig:
    """How answers are read and compared. The kind's own settings, such as pattern, are written beside `kind`."""

    kind: str = "number"
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class ExecutionConfig:
    """How the job is run; results may differ by timing unless `ordered`."""

    in_flight: int | None = None
    """prompts with a purchase under way at once; chosen from the replicas unless given"""
    ordered: bool = False
    """take replies in the order they were asked for: the same seed then gives the same job, at the cost of waiting"""


@dataclass
class ClusterConfig:
    """Where the actors run."""

    address: str = "local"
    """local (a Ray of our own on this machine), auto, HOST:PORT of a cluster, or inline (no Ray: this process)"""
    wait_s: float = 0.0
    """seconds to wait for nodes that are not there yet, where an autoscaler or a person adds them; 0 refuses at once
    what the nodes can never hold"""


@dataclass
class JobConfig:
    """The whole file."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    output: str = MISSING
    """the run directory: a folder, or any fsspec URL, to which it is then published"""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    models: dict[str, ModelConfig] = field(default_factory=dict)
    arms: dict[str, ArmConfig] = field(default_factory=dict)
    difficulty: DifficultyConfig = field(default_factory=DifficultyConfig)
    allocation: AllocationConfig = field(default_factory=AllocationConfig)
    answer: AnswerConfig = field(default_factory=AnswerConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    seed: int = 0
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
