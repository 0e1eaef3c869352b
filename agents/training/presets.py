"""Presets are data: named settings of a recipe and of the loop, one TOML file per recipe.

    [small]
    about = "an hour on two cores"
    [small.model]                        # fields of the recipe's config
    chunk = 8
    [small.training]                     # fields of TrainConfig
    steps = 20000
    [small.stages.skills]                # TrainConfig of one stage, on top of `training`
    steps = 5000
    [small.suites."libero-*".model]      # on top, for suites whose name matches
    chunk = 16
    [small.suites."libero-*".training]
    steps = 40000

Every preset stands on the recipe's own defaults. Unknown names are refused.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Literal

from flowbench.agents.training.checkpoint import make_config
from flowbench.agents.training.recipe import Recipe
from flowbench.errors import BadValue, unknown_name

PRESET_TABLES = ("about", "model", "training", "stages", "suites")


@dataclass(frozen=True)
class TrainConfig:
    """What the loop needs to know about one stage.

    Attributes:
        steps: Optimiser steps.
        batch_size: Samples per step.
        lr: Peak learning rate of AdamW.
        weight_decay: Of weights with two or more axes; biases and norms are not decayed.
        beta2: AdamW's second coefficient; the first is 0.9.
        warmup_steps: Steps over which the learning rate rises from zero.
        schedule: `cosine` falls to `final_lr` of the peak at the last step; `constant` does not fall.
        final_lr: Share of the peak learning rate that is left at the end.
        clip_norm: Gradients are shortened to this norm; 0 leaves them.
        ema_decay: Of the averaged weights, which validation, rollouts and the checkpoint use; 0 takes the last weights.
        validate_every: Steps between validations.
        validation_batches: Batches of one validation.
        precision: `bf16` and `fp32`; `auto` is bf16 where the device multiplies it in hardware, else fp32.
        compile: Whether to compile the network; `auto` on a GPU only.
    """

    steps: int = 1000
    batch_size: int = 64
    lr: float = 3e-4
    weight_decay: float = 1e-4
    beta2: float = 0.999
    warmup_steps: int = 100
    schedule: Literal["cosine", "constant"] = "cosine"
    final_lr: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    validate_every: int = 500
    validation_batches: int = 8
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 1), ("validate_every", 1), ("warmup_steps", 0), ("lr", 0)):
            if getattr(self, name) < least:
                raise BadValue(f"{name} is {getattr(self, name)}; it is at least {least}.")
        if not 0 <= self.ema_decay < 1:
            raise BadValue(f"ema_decay is {self.ema_decay}; it is at least 0 and below 1.")
        for name, allowed in (
            ("schedule", ("cosine", "constant")),
            ("precision", ("auto", "bf16", "fp32")),
            ("compile", ("auto", "on", "off")),
        ):
            if getattr(self, name) not in allowed:
                raise unknown_name(name, str(getattr(self, name)), allowed, "TrainConfig")


@dataclass(frozen=True)
class Settings:
    """A preset with everything that the user changed.

    Attributes:
        preset: Its name.
        config: The recipe's config.
        stages: Settings of the loop by stage, in order.
    """

    preset: str
    config: Any
    stages: Mapping[str, TrainConfig]


def preset_names(recipe: Recipe) -> list[str]:
    """Return the names of a recipe's presets."""
    return list(_read(recipe))


def load_settings(
    recipe: Recipe,
    preset: str,
    suite: str | None,
    changes: Sequence[str] = (),
    *,
    config: Mapping[str, Any] | None = None,
    **training: Any,
) -> Settings:
    """Return a preset for a suite, changed as the user asks.

    Args:
        recipe: What is trained.
        preset: Name of the preset.
        suite: Name of the suite, for its own entries.
        changes: `name=value` of the recipe's config or of `TrainConfig`, or `stage.name=value` for one stage; values are
            JSON where they can be, else text.
        config: What stands for the preset's config: that of a checkpoint whose earlier stages are built on.
        **training: Fields of `TrainConfig` in every stage; None leaves the preset's.

    Raises:
        UnknownName: If a preset or a field does not exist.
        BadValue: If a value has the wrong form.
    """
    tables = _read(recipe)
    if preset not in tables:
        raise unknown_name("preset", preset, tables, f"Agent {recipe.name}")
    table = tables[preset]
    own = [part for pattern, part in table.get("suites", {}).items() if fnmatchcase(suite or "", pattern)]
    model_fields = _field_types(recipe.config_class)
    model = _merged([table, *own], "model")
    if config is not None:
        model = {name: value for name, value in config.items() if name in model_fields}
    train_fields = _field_types(TrainConfig)
    given = {name: value for name, value in training.items() if value is not None}
    by_stage: dict[str, dict[str, Any]] = {}
    for change in changes:
        stage, name, value = _parse(change)
        if stage:
            _check_field(name, train_fields, f"Stage {stage} of {recipe.name}")
            by_stage.setdefault(stage, {})[name] = value
        elif name in model_fields:
            model[name] = value
        else:
            _check_field(name, {**model_fields, **train_fields}, f"Agent {recipe.name}")
            given[name] = value
    built = _built(recipe.config_class, model, f"preset {preset} of {recipe.name}")
    stages = {}
    for stage in recipe.stages(built):
        values = _merged([table, *own], "training")
        for part in (table, *own):
            values |= part.get("stages", {}).get(stage, {})
        values |= given | by_stage.pop(stage, {})
        stages[stage] = _built(TrainConfig, values, f"preset {preset} of {recipe.name}")
    if by_stage:
        raise unknown_name("stage", next(iter(by_stage)), stages, f"Agent {recipe.name}")
    return Settings(preset, built, stages)


def _read(recipe: Recipe) -> dict[str, dict[str, Any]]:
    tables = tomllib.loads(recipe.presets.read_text(encoding="utf-8"))
    for name, table in tables.items():
        for part in table:
            if part not in PRESET_TABLES:
                raise unknown_name("table", part, PRESET_TABLES, f"Preset {name} in {recipe.presets}")
    return tables


def _merged(tables: Sequence[Mapping[str, Any]], part: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for table in tables:
        merged |= table.get(part, {})
    return merged


def _field_types(cls: type) -> dict[str, Any]:
    return {field.name: field for field in fields(cls)}


def _check_field(name: str, known: Mapping[str, Any], where: str) -> None:
    if name not in known:
        raise unknown_name("setting", name, known, where)


def _parse(change: str) -> tuple[str, str, Any]:
    name, separator, text = change.partition("=")
    if not separator or not name.strip():
        raise BadValue(f"--set {change!r} is not of the form name=value, e.g. --set chunk=8.")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = {"True": True, "False": False}.get(text.strip(), text.strip())
    stage, _, name = name.strip().rpartition(".")
    return stage, name, value


def _built(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """Build a dataclass, refusing unknown fields and values of another type than the default's."""
    known = _field_types(cls)
    for name, value in values.items():
        _check_field(name, known, where[0].upper() + where[1:])
        default = known[name].default
        if default is MISSING or default is None or value is None:
            continue
        number = isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
        sequence = isinstance(default, tuple) and isinstance(value, list)
        if not (number or sequence or type(value) is type(default)):
            raise BadValue(f"{name} is {value!r} in {where}; expected {type(default).__name__}, e.g. {default!r}.")
    exact = {name: float(value) if isinstance(known[name].default, float) else value for name, value in values.items()}
    return make_config(cls, exact)
