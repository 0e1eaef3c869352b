"""What the author of something trainable writes: data, network, loss, and the agent that comes of it.

Everything else (the loop, resuming, validation, logs, checkpoints, the command line) is written once, for this contract.
A recipe is found by name through the entry-point group `flowbench.recipes`, or as `package.module:NAME` or
`path/to/file.py:NAME`.

What happens, in order, in a training:

1. `facts(config, sources)`: everything the network must know about the data (action statistics, words, cameras), as JSON.
2. `build(config, facts)`: the network. Weights are drawn from torch's global generator, which is seeded before.
3. For each of `stages(config)`: `prepare`, then steps of `loss` on batches of `data(..., split="train")`, and now and then on
   `data(..., split="validation")`.
4. The checkpoint: `config` and `facts` as JSON and the averaged (EMA) weights, nothing else. `build` must make the same
   network from them, on a machine without the data.
"""

from __future__ import annotations

import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np

from flowbench.errors import BadValue, DataError, missing_extra, unknown_name
from flowbench.suite import load_object

if TYPE_CHECKING:
    import torch

    from flowbench.agent import Agent
    from flowbench.agents.training.checkpoint import Checkpoint
    from flowbench.agents.training.sources import Sources

RECIPE_GROUP = "flowbench.recipes"
Split = Literal["train", "validation"]
#: Arrays by name, first axis B.
Batch = dict[str, "torch.Tensor"]


class TrainingData(Protocol):
    """Samples by number, fetched a batch at a time: one call per step instead of one per sample."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> Batch:
        """Return the samples `indices` (B,) as CPU tensors (B, ...), always the same for the same indices.

        Called from a thread of its own, ahead of time. What is random (augmentation, diffusion noise) belongs into the
        loss, where it is drawn on the training's device from a generator that survives an interruption.
        """
        ...


class Moment(NamedTuple):
    """When a loss is asked for.

    Attributes:
        stage: Name of the stage.
        step: Number of the optimiser step, from 1.
        training: Whether gradients will be taken; augment only then.
        generator: The source of randomness, on the batch's device. Its state is a function of the seed, the stage and the
            step, so that an interrupted training draws the same numbers when it goes on.
    """

    stage: str
    step: int
    training: bool
    generator: torch.Generator


class Recipe(ABC):
    """Something that can be trained.

    Attributes:
        name: Name on the command line and in checkpoints.
        config_class: Frozen dataclass of the method's hyper-parameters: JSON types and tuples of them, every field with a
            default. What the loop needs (steps, learning rate) is not among them: see `TrainConfig`.
        presets: TOML file with presets (see `flowbench.agents.training.presets`).
    """

    name: ClassVar[str]
    config_class: ClassVar[type]
    presets: ClassVar[Path]
    #: Facts whose entries a network knows by their number: a training from a checkpoint numbers them as that one did.
    numbered: ClassVar[tuple[str, ...]] = ("instructions", "cameras")

    def stages(self, config: Any) -> tuple[str, ...]:
        """Return the names of the stages, in order; each has its own data, loss, optimiser and schedule.

        Every stage trains parts of the one network of `build` and starts from the averaged weights of the one before.
        """
        return ("train",)

    @abstractmethod
    def facts(self, config: Any, sources: Sources) -> dict[str, Any]:
        """Return what the network and the agent must know about the training data, as JSON.

        `sources.suite` stands for the suite; `checkpoint.suite_facts(sources)` gives the entries that every agent's
        checkpoint is checked by.
        """

    def carried_facts(
        self, config: Any, facts: dict[str, Any], before: Mapping[str, Any], stages: Collection[str]
    ) -> dict[str, Any]:
        """Return the facts of some stages alone, which stand on the weights of the others.

        Args:
            config: The method's hyper-parameters.
            facts: Those of this training's data.
            before: Those of the checkpoint that the other stages come from.
            stages: What is trained here.

        Raises:
            DataError: If the data have what the other stages do not know.
        """
        return facts

    @abstractmethod
    def data(self, config: Any, facts: Mapping[str, Any], sources: Sources, split: Split, stage: str) -> TrainingData:
        """Open the samples of a stage; `flowbench.agents.training.windows` has a fast ready-made kind."""

    @abstractmethod
    def build(self, config: Any, facts: Mapping[str, Any]) -> torch.nn.Module:
        """Build the network, on the CPU and untrained."""

    @abstractmethod
    def loss(
        self, model: torch.nn.Module, batch: Batch, moment: Moment
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Return the scalar to minimise, and scalars to log beside it (detached; always the same names in a stage)."""

    def demonstrations(self, sources: Sources) -> int:
        """Return the number of demonstrations that are learned from; 0 where the data is something else."""
        return sources.count(split="train") if sources.paths else 0

    def agent(self, checkpoint: Checkpoint, device: str = "cpu") -> Agent:
        """Make the agent of a checkpoint.

        Raises:
            BadValue: If this is not an agent but a part of one.
        """
        raise BadValue(f"{self.name} is a part of an agent and cannot act by itself; nothing to evaluate.")

    def parameters(self, model: torch.nn.Module, stage: str) -> Iterable[torch.nn.Parameter]:
        """Return what a stage trains; all others keep still and get no gradients."""
        return model.parameters()

    def prepare(  # noqa: B027 - most recipes have nothing to prepare
        self, model: torch.nn.Module, config: Any, facts: Mapping[str, Any], stage: str
    ) -> None:
        """Change the network in place before a stage begins, e.g. load published weights; not called when resuming."""


def recipe_names() -> list[str]:
    """Return the names of every installed recipe, without importing one."""
    return list(_entries())


@cache
def _entries() -> dict[str, Any]:
    return {entry.name: entry for entry in entry_points(group=RECIPE_GROUP)}


def get_recipe(name: str) -> Recipe:
    """Return a recipe by registered name, `package.module:NAME` or `path/to/file.py:NAME`.

    Raises:
        UnknownName: With the nearest registered name.
        BadValue: If a module or file does not define it.
        MissingExtra: If torch, or what else it imports, is not installed.
    """
    try:
        recipe = _load(name)
    except ModuleNotFoundError as error:
        if name in _entries():
            raise missing_extra(f"Training {name}", "agents", error) from error
        raise BadValue(f"Recipe {name!r} could not be imported: no module named {error.name!r}.") from error
    except (ImportError, SyntaxError, ValueError) as error:
        raise BadValue(f"Recipe {name!r} could not be imported: {error}.") from error
    if isinstance(recipe, type) and issubclass(recipe, Recipe):
        recipe = recipe()
    if not isinstance(recipe, Recipe):
        raise BadValue(
            f"{name!r} is a {type(recipe).__name__}; expected a flowbench.agents.training.recipe.Recipe (docs/training.md "
            "has an example)."
        )
    return recipe


def _load(name: str) -> Any:
    entries = _entries()
    if name in entries:
        return entries[name].load()
    path, _, attribute = name.partition(":")
    if path.endswith(".py") and attribute:
        file = Path(path)
        if not file.is_file():
            raise BadValue(f"Recipe file {path!r} does not exist.")
        # The name under which `--agent path/to/file.py:Class` imports it too.
        module_name = f"flowbench_agent_{file.stem}"
        if module_name not in sys.modules:
            spec = importlib.util.spec_from_file_location(module_name, file)
            sys.modules[module_name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[module_name])
        return load_object(f"{module_name}:{attribute}")
    if attribute:
        return load_object(name)
    step = "A recipe can also be given as package.module:NAME or path/to/file.py:NAME."
    raise unknown_name("trainable agent", name, entries, next_step=step)


def numbered_before(facts: Mapping[str, Any], before: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return those lists of the facts `before` that have all that the lists of `facts` have, under their names."""
    there = [name for name in names if name in facts and name in before]
    return {name: before[name] for name in there if set(facts[name]) <= set(before[name])}


def numbers_of_part(
    facts: Mapping[str, Any], before: Mapping[str, Any], names: Collection[str], part: str, how: str
) -> dict[str, Any]:
    """Return lists of facts as a part that is not trained again numbers them.

    Args:
        facts: Those of the data.
        before: Those of the checkpoint that the part comes from.
        names: Which lists, among `instructions` and `cameras`.
        part: The part, for the message.
        how: What trains the part, e.g. `--stage policy`.

    Raises:
        DataError: If the data have a sentence or a camera that the part does not know.
    """
    known = numbered_before(facts, before, names)
    for name in names:
        if name not in known:
            noun = {"instructions": "sentence", "cameras": "camera"}[name]
            unknown = next(each for each in facts[name] if each not in before[name])
            raise DataError(
                f"The data have the {noun} {unknown!r}, which {part} was not trained on. Train it on all of them: {how}."
            )
    return known
