"""What a training leaves behind: a folder with JSON and safetensors, from which nothing is ever unpickled.

    config.json          format, recipe, config (the method's hyper-parameters), facts (what was learned from the data),
                         weights_sha256, weights_bytes
    model.safetensors    the averaged (EMA) weights
    training.json        how they came about: preset, steps, seconds, metrics, data hash, versions, command; for people,
                         nothing here changes what the agent does

A checkpoint is named by its folder, by the name of one that is shipped with FlowBench, or as `hf://organisation/name`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowbench.agents.training.recipe import Recipe
from flowbench.atomic import write_atomically, write_text_atomically
from flowbench.camera import CameraPose
from flowbench.errors import FlowBenchError, MissingExtra, unknown_name
from flowbench.task import Task

if TYPE_CHECKING:
    import torch

    from flowbench.agents.training.sources import Sources

#: Raised when a checkpoint of this FlowBench cannot be read by an older one.
FORMAT_VERSION = 1
CONFIG, WEIGHTS, TRAINING = "config.json", "model.safetensors", "training.json"
HUB_PREFIX = "hf://"


class CheckpointError(FlowBenchError):
    """Raised when a checkpoint is missing, damaged, or does not fit what is asked of it."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, with its weights still on disk.

    Attributes:
        folder: Where it lies.
        recipe: Name of the recipe that made it.
        config: The method's hyper-parameters, JSON.
        facts: What was learned from the data, JSON.
        weights_sha256: Hash of the weights' file.
        weights_bytes: Size of the weights' file.
        training: How it was trained; empty if that file is missing.
    """

    folder: Path
    recipe: str
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    weights_sha256: str
    weights_bytes: int
    training: Mapping[str, Any]

    @classmethod
    def open(cls, source: str | Path | Checkpoint, *recipes: str) -> Checkpoint:
        """Open a checkpoint and check that it is whole, except for the weights' content (see `weights`).

        Args:
            source: A folder, the name of a shipped checkpoint, or `hf://organisation/name`.
            *recipes: The recipes that it may be of; none for any.

        Raises:
            CheckpointError: If it is missing, incomplete, damaged, of a newer format, or of another recipe.
        """
        checkpoint = source if isinstance(source, Checkpoint) else cls._read(locate(str(source)))
        if recipes and checkpoint.recipe not in recipes:
            raise CheckpointError(
                f"Checkpoint {checkpoint.folder} is of {checkpoint.recipe!r}, not of {' or '.join(map(repr, recipes))}. "
                f"Evaluate it with --agent {checkpoint.recipe}."
            )
        return checkpoint

    def config_as(self, config_class: type) -> Any:
        """Return the hyper-parameters as the recipe's dataclass.

        Raises:
            CheckpointError: If it has fields that the dataclass does not know.
        """
        known = {field.name for field in fields(config_class)}
        unknown = sorted(set(self.config) - known)
        if unknown:
            raise CheckpointError(
                f"Checkpoint {self.folder} sets {', '.join(unknown)}, which {self.recipe} of this FlowBench does not know. It "
                f"was written by FlowBench {self.training.get('versions', {}).get('flowbench', 'of unknown version')}."
            )
        return make_config(config_class, self.config)

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        """The averaged weights, on the CPU.

        Raises:
            CheckpointError: If the file is missing, cut short, or not the one that was written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self.folder / WEIGHTS
        content = _read_bytes(path)
        if len(content) < self.weights_bytes:
            raise CheckpointError(
                f"{path} is cut short: it has {len(content)} of {self.weights_bytes} bytes. Copy or download it again."
            )
        found = hashlib.sha256(content).hexdigest()
        if found != self.weights_sha256:
            raise CheckpointError(
                f"{path} is damaged or of another training: its SHA-256 is {found[:12]}..., and {CONFIG} says "
                f"{self.weights_sha256[:12]}.... Copy or download the folder again."
            )
        try:
            return load(content)
        except SafetensorError as error:
            raise CheckpointError(f"{path} is not a safetensors file: {error}.") from error

    def fill(self, model: torch.nn.Module, part: str = "") -> None:
        """Fill in the weights of a network, and make it ready to be used: evaluation mode, no gradients.

        Args:
            model: The network.
            part: Which part of the trained one it is: the name of the submodule; "" for all of it.

        Raises:
            CheckpointError: If the weights are damaged or do not fit the network.
        """
        prefix = f"{part}." if part else ""
        weights = {name.removeprefix(prefix): value for name, value in self.weights.items() if name.startswith(prefix)}
        expected = model.state_dict()
        lacking = sorted(set(expected) - set(weights)) + sorted(set(weights) - set(expected))
        shapes = [name for name, value in weights.items() if name in expected and value.shape != expected[name].shape]
        if lacking or shapes:
            name = (lacking or shapes)[0]
            has, wants = (tuple(own[name].shape) if name in own else "nothing" for own in (weights, expected))
            raise CheckpointError(
                f"The weights in {self.folder} do not fit the network that its {CONFIG} describes: at {prefix}{name} the file "
                f"has {has} and the network {wants}. It was written by another version of {self.recipe}, or edited."
            )
        model.load_state_dict(weights)
        model.eval().requires_grad_(False)

    def check_task(self, task: Task, cameras: Iterable[str] = ()) -> None:
        """Check that an episode is of the kind that this was trained for.

        Args:
            task: What is asked.
            cameras: The episode's cameras, each by name or displaced pose; a displaced pose counts as its base view.

        Raises:
            CheckpointError: With what the checkpoint knows and what was asked.
        """
        facts = self.facts
        if task.family != facts["family"]:
            raise CheckpointError(
                f"Checkpoint {self.folder} was trained for suite {facts['suite']} ({facts['family']}), and {task.suite} runs "
                f"in {task.family}. Train one for it: flowbench train --agent {self.recipe} --suite {task.suite} --data FILE"
            )
        labels = list(task.action_spec.labels)
        if labels != facts["action_labels"]:
            raise CheckpointError(
                f"Checkpoint {self.folder} gives {len(facts['action_labels'])} action components "
                f"({', '.join(facts['action_labels'])}), and suite {task.suite} takes {len(labels)} ({', '.join(labels)})."
            )
        for camera in cameras:
            view = CameraPose.parse(camera).view
            if view not in facts["cameras"]:
                raise CheckpointError(
                    f"Checkpoint {self.folder} does not know camera {view!r}; it was trained on "
                    f"{', '.join(facts['cameras'])}. Evaluate it there, or train one with that camera's images."
                )

    @property
    def description(self) -> str:
        """One sentence: what it is, and how it was trained."""
        training = self.training
        # A flow network may be of several.
        suites = self.facts.get("suites") or [self.facts.get("suite", "no suite")]
        parts = [f"{self.recipe} trained for {', '.join(suites)}"]
        if training:
            parts.append(f"preset {training['preset']}, {self._steps} steps in {training['seconds'] / 60:.0f} minutes")
            if training.get("demonstrations"):
                labelled = training.get("label_fraction", 1.0)
                share = f", {labelled:.0%} of them with actions" if labelled < 1 else ""
                parts.append(f"on {training['demonstrations']} demonstrations{share}")
        return ", ".join(parts) + f" ({self.folder})"

    @property
    def _steps(self) -> str:
        """Steps of every stage so far, e.g. `2500 + 1200`."""
        names = list(self.training.get("stages", {}))
        stage = self.training.get("stage")
        before = names[: names.index(stage)] if stage in names else []
        steps = [*(self.training["stages"][name]["steps"] for name in before), self.training["step"]]
        return " + ".join(map(str, steps))

    @classmethod
    def _read(cls, folder: Path) -> Checkpoint:
        path = folder / CONFIG
        content = _json(path)
        version = content.get("format")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise CheckpointError(
                f"{path} has format {version!r}; this FlowBench reads formats up to {FORMAT_VERSION}. Update it: pip install "
                "-U flowbench"
            )
        values = {}
        for field, kind in (
            ("recipe", str),
            ("config", dict),
            ("facts", dict),
            ("weights_sha256", str),
            ("weights_bytes", int),
        ):
            if not isinstance(content.get(field), kind):
                raise CheckpointError(f"{path} has no {field}, so it is no checkpoint of FlowBench, or was edited.")
            values[field] = content[field]
        if not (folder / WEIGHTS).is_file():
            raise CheckpointError(f"Checkpoint {folder} has no {WEIGHTS}. Copy or download the whole folder.")
        training = _json(folder / TRAINING) if (folder / TRAINING).is_file() else {}
        return cls(folder=folder, training=training, **values)


class CheckpointAgent:
    """Mixin of agents whose checkpoints are those of this module: they may be named, and some are shipped."""

    @staticmethod
    def default_checkpoint(agent: str, suite: str) -> str | None:
        """Return the name of the checkpoint that is shipped for an agent and a suite; None if there is none."""
        name = f"{agent}-{suite}"
        return name if name in shipped_checkpoints() else None

    @staticmethod
    def checkpoint_files(checkpoint: str) -> tuple[Path, ...]:
        """Return the files that determine what the agent does; how it was trained is not among them."""
        folder = locate(checkpoint)
        return folder / CONFIG, folder / WEIGHTS

    @staticmethod
    def describe_checkpoint(checkpoint: str) -> str:
        """Return what it is and how it was trained."""
        return Checkpoint.open(checkpoint).description


def write_checkpoint(
    folder: Path,
    recipe: Recipe,
    config: Any,
    facts: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    training: Mapping[str, Any],
) -> Checkpoint:
    """Write a checkpoint; every file is there whole or not at all, and an interrupted write is noticed when it is read."""
    from safetensors.torch import save

    content = save({name: value.detach().cpu().contiguous() for name, value in weights.items()})
    description = {
        "format": FORMAT_VERSION,
        "recipe": recipe.name,
        "config": asdict(config),
        "facts": dict(facts),
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "weights_bytes": len(content),
    }
    folder = Path(folder)
    write_atomically(folder / WEIGHTS, lambda path: path.write_bytes(content))
    write_text_atomically(folder / TRAINING, json.dumps(training, indent=1) + "\n")
    write_text_atomically(folder / CONFIG, json.dumps(description, indent=1) + "\n")
    return Checkpoint.open(folder)


def suite_facts(sources: Sources, cameras: Iterable[str] = ()) -> dict[str, Any]:
    """Return the facts by which `Checkpoint.check_task` tells whether an agent fits an episode.

    Args:
        sources: The data, with its suite.
        cameras: Views that the agent knows.

    Raises:
        CheckpointError: If the sources name no suite.
    """
    suite = sources.suite
    if suite is None:
        raise CheckpointError("An agent is trained for a suite. Name it with --suite NAME (flowbench list suites).")
    spec = suite.tasks[0].action_spec
    return {
        "suite": suite.name,
        "family": suite.family,
        "action_convention": spec.convention,
        "action_labels": list(spec.labels),
        "action_choices": list(spec.choices),
        "action_low": list(spec.low),
        "action_high": list(spec.high),
        "cameras": list(cameras),
        "tasks": [task.name for task in suite.tasks],
    }


def make_config(config_class: type, values: Mapping[str, Any]) -> Any:
    """Build a config from JSON or TOML, whose lists stand for tuples."""
    return config_class(**{name: _tuples(value) for name, value in values.items()})


def shipped_checkpoints() -> dict[str, Path]:
    """Return the folders of the checkpoints that come with FlowBench, by name."""
    top = Path(str(files("flowbench.agents"))) / "checkpoints"
    return {path.parent.name: path.parent for path in sorted(top.glob(f"*/{CONFIG}"))}


def locate(source: str) -> Path:
    """Return the folder of a checkpoint named by folder, shipped name or `hf://organisation/name`.

    Raises:
        CheckpointError: If there is no such folder, or it cannot be downloaded.
        UnknownName: If a name is neither a folder nor shipped.
    """
    if source.startswith(HUB_PREFIX):
        return _download(source)
    folder = Path(source)
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            inside = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
            raise CheckpointError(f"{folder} is no checkpoint: it has no {CONFIG} (it holds {inside}).")
        return folder
    shipped = shipped_checkpoints()
    if source in shipped:
        return shipped[source]
    if folder.exists():
        raise CheckpointError(f"{folder} is a file; a checkpoint is a folder with {CONFIG}, {WEIGHTS} and {TRAINING}.")
    if "/" in source or not shipped:
        raise CheckpointError(f"There is no checkpoint at {source}: no such folder.")
    raise unknown_name(
        "checkpoint", source, shipped, next_step="A checkpoint is a folder, a shipped name, or hf://organisation/name."
    )


def _download(source: str) -> Path:
    name = source.removeprefix(HUB_PREFIX)
    if name.count("/") != 1 or not all(name.split("/")):
        raise CheckpointError(f"Checkpoint {source!r} is not of the form hf://organisation/name.")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtra(
            f"Checkpoint {source} is downloaded by huggingface_hub, which is not installed. Install it: pip install "
            "huggingface_hub"
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, TRAINING]))
    except (OSError, LocalEntryNotFoundError, HfHubHTTPError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"Checkpoint {source} cannot be downloaded ({type(error).__name__}: {reason}). Without a network, copy its folder "
            "here and give its path."
        ) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_bytes(path))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}). Copy or download it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__} instead of an object. Copy or download it again."
        )
    return content


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
