"""The training loop, the only one: seeded, resumable, averaged, validated, watched.

What a step computes is a function of the seed, the stage and the step: its samples (`DataOrder`), its randomness (every
generator is seeded anew at each step) and its learning rate. An interrupted training therefore goes on as if nothing had
happened, bit for bit on a CPU.
"""

from __future__ import annotations

import copy
import json
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from flowbench.agents.training.checkpoint import Checkpoint, CheckpointError, write_checkpoint
from flowbench.agents.training.devices import checked_device, device_name, multiplies_bf16
from flowbench.agents.training.logs import TrainingLog
from flowbench.agents.training.presets import Settings, TrainConfig
from flowbench.agents.training.recipe import Batch, Moment, Recipe, TrainingData, numbered_before
from flowbench.agents.training.rollouts import RolloutPlan, Rollouts
from flowbench.agents.training.sources import Sources
from flowbench.agents.training.state import DataOrder, TrainingState, optimiser_tensors, restore_optimiser, stream_seed
from flowbench.errors import BadValue, DataError, RunFailed
from flowbench.manifest import command_line, installed_versions

LOCK = ".lock"
#: Batches that are fetched ahead of time.
PREFETCHED = 3
#: Seconds between two saves: what a killed training loses, and with it the time to write one.
SAVE_EVERY_S = 40.0


@dataclass(frozen=True)
class TrainOptions:
    """How to run a training.

    Attributes:
        out: The training's folder.
        device: `cpu`, `cuda` or `cuda:N`.
        seed: Of weights, data order and augmentation.
        resume: Whether to continue a folder that holds the same training.
        init_from: Checkpoint whose weights to start from; None starts afresh.
        time_limit_s: Wall seconds, over all interruptions, after which to stop; None for no limit. Several stages share it
            as they share the steps.
        rollouts: When to try the agent in its suite; None never.
        progress: Whether to show bars and remarks.
        save_every_s: Seconds between two saves.
    """

    out: Path
    device: str = "cpu"
    seed: int = 0
    resume: bool = True
    init_from: str | None = None
    time_limit_s: float | None = None
    rollouts: RolloutPlan | None = None
    progress: bool = True
    save_every_s: float = SAVE_EVERY_S


def train(recipe: Recipe, settings: Settings, sources: Sources, options: TrainOptions) -> Checkpoint:
    """Train, or go on training, and return the checkpoint.

    Raises:
        FlowBenchError: If the data, the device or the folder does not fit.
        RunFailed: If the loss is not finite.
        KeyboardInterrupt: After everything was saved.
    """
    # Networks and losses draw from torch's global generator (initial weights, dropout); the caller's is left alone.
    with torch.random.fork_rng(devices=[]), _only_one(options.out):
        return _Training(recipe, settings, sources, options).run()


class _Training:
    """One training: the network, its average, and where it stands."""

    def __init__(self, recipe: Recipe, settings: Settings, sources: Sources, options: TrainOptions) -> None:
        self.recipe, self.settings, self.sources, self.options = recipe, settings, sources, options
        self.device = checked_device(options.device)
        self.state = _opened_state(recipe, settings, sources, options)
        self.started = time.monotonic() - self.state.seconds
        self.interrupted = False

    def run(self) -> Checkpoint:
        """Train every stage that is not finished."""
        out = self.options.out
        if self.state.finished:
            self.remark(f"{out} is already trained; nothing was done.")
            return Checkpoint.open(out)
        if self.state.tensors:
            self.facts = Checkpoint.open(out).facts
        else:
            # Through JSON, so that a training that goes on sees exactly what it saw before.
            self.facts = json.loads(json.dumps(self._facts()))
        self.demonstrations = self.recipe.demonstrations(self.sources)
        self._build()
        if not self.state.tensors:
            # What the data lack for a later stage is said now, not when the first has been trained.
            for stage in list(self.settings.stages)[1:]:
                self.recipe.data(self.settings.config, self.facts, self.sources, "train", stage)
        plan = self.options.rollouts
        self.rollouts = Rollouts(plan, out) if plan else None
        try:
            for index in range(self.state.stage, len(self.settings.stages)):
                _Stage(self, index).run()
        finally:
            if self.rollouts:
                self.rollouts.stop()
        return Checkpoint.open(out)

    def _facts(self) -> dict[str, Any]:
        config, stages = self.settings.config, self.settings.stages
        facts = self.recipe.facts(config, self.sources)
        if not self.options.init_from:
            return facts
        before = Checkpoint.open(self.options.init_from, self.recipe.name).facts
        facts |= numbered_before(facts, before, self.recipe.numbered)
        if set(stages) == set(self.recipe.stages(config)):
            return facts
        return self.recipe.carried_facts(config, facts, before, stages)

    def _build(self) -> None:
        torch.manual_seed(stream_seed(self.options.seed, "weights"))
        self.model = self.recipe.build(self.settings.config, self.facts)
        saved = self.state.part("model/")
        if saved:
            self.model.load_state_dict(saved)
        elif self.options.init_from:
            given = Checkpoint.open(self.options.init_from, self.recipe.name)
            self.remark(start_from(self.model, given, self._starting_afresh()))
        self.model.to(self.device)
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        if saved:
            self.averaged.load_state_dict(self.state.part("averaged/"))

    def _starting_afresh(self) -> frozenset[str]:
        """Return the weights that are not taken from `init_from`: what one stage of several trains, and no other does.

        Its own weights there may have learned from what this training must not see, e.g. the actions of more demonstrations.
        """
        chosen, all_of_them = self.settings.stages, self.recipe.stages(self.settings.config)
        if set(chosen) == set(all_of_them):
            return frozenset()
        others = self._trained_by(stage for stage in all_of_them if stage not in chosen)
        return frozenset(self._trained_by(chosen) - others)

    def _trained_by(self, stages: Iterable[str]) -> set[str]:
        trained = {id(each) for stage in stages for each in self.recipe.parameters(self.model, stage)}
        return {name for name, each in self.model.named_parameters() if id(each) in trained}

    def seconds(self) -> float:
        """Return the wall time spent so far, over all interruptions."""
        return time.monotonic() - self.started

    def save(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write the checkpoint of the averaged weights, and what is needed to go on.

        Args:
            tensors: What the current stage keeps.
        """
        state = self.state
        state.seconds = self.seconds()
        state.tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        state.tensors |= {f"averaged/{name}": value for name, value in self.averaged.state_dict().items()}
        state.tensors |= tensors
        if state.finished:
            # Nothing will go on from here; the checkpoint has the weights.
            state.tensors = {}
        self.write_checkpoint(self.options.out)
        state.save(self.options.out)

    def write_checkpoint(self, folder: Path) -> Checkpoint:
        """Write a checkpoint of the averaged weights."""
        state = self.state
        story = {
            "preset": self.settings.preset,
            "stage": list(self.settings.stages)[state.stage],
            "step": state.step,
            "finished": state.finished,
            "seconds": round(self.seconds(), 1),
            "metrics": state.metrics,
            **{name: value for name, value in state.identity.items() if name not in ("recipe", "preset", "config")},
            "demonstrations": self.demonstrations,
            "device": device_name(self.device),
            "threads": torch.get_num_threads(),
            "command": command_line(),
            "versions": installed_versions(),
        }
        return write_checkpoint(
            folder, self.recipe, self.settings.config, self.facts, self.averaged.state_dict(), story
        )

    def remark(self, text: str) -> None:
        """Tell the user something, above the progress bar."""
        if self.options.progress and text:
            tqdm.write(text)

    @contextmanager
    def interrupts_wait(self) -> Iterator[None]:
        """Let Ctrl-C and a scheduler's SIGTERM wait for the end of the step; a second one does not wait."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Stage:
    """One stage of a training: its data, optimiser and log."""

    def __init__(self, training: _Training, index: int) -> None:
        self.training = training
        self.recipe, self.model, self.averaged = training.recipe, training.model, training.averaged
        self.state, self.options, self.device = training.state, training.options, training.device
        names = list(training.settings.stages)
        self.index, self.name, self.last = index, names[index], index == len(names) - 1
        self.config = training.settings.stages[self.name]
        self.seed = (self.options.seed, self.name)

    def run(self) -> None:
        """Train the stage to its end, or to its share of the time limit."""
        self._prepare()
        state, config = self.state, self.config
        try:
            if state.step < config.steps and not self._out_of_time():
                self._train()
            if self.last:
                self._roll_out_at_the_end()
        finally:
            self.log.close()
        if state.step < config.steps:
            self.training.remark(
                f"Stage {self.name}: the time limit is reached at step {state.step} of {config.steps}."
            )
        if not self.last:
            # The next stage starts from the averaged weights, which are also what the checkpoint holds.
            _copy_weights(self.model, self.averaged)
            state.stage, state.step = self.index + 1, 0
            self.training.save({})
        else:
            state.finished = state.step == config.steps
            self._save()

    def _prepare(self) -> None:
        training, state, config = self.training, self.state, self.config
        settings, sources, facts = training.settings, training.sources, training.facts
        if state.step == 0:
            torch.manual_seed(stream_seed(*self.seed, "prepare"))
            self.recipe.prepare(self.model, settings.config, facts, self.name)
            _copy_weights(self.averaged, self.model)
        self.data = self.recipe.data(settings.config, facts, sources, "train", self.name)
        self.held_out = self._open_held_out()
        held_out = f", {len(self.held_out)} held out" if self.held_out else ""
        kept = getattr(self.data, "cached_bytes", 0)
        cache = f"; {kept / 1e6:.0f} MB of decoded frames in {sources.cache}" if kept else ""
        training.remark(f"Stage {self.name}: {len(self.data)} samples{held_out}{cache}; {config.steps} steps.")
        self.trained = list(self.recipe.parameters(self.model, self.name))
        self.model.requires_grad_(False)
        for parameter in self.trained:
            parameter.requires_grad_(True)
        self.optimiser = make_optimiser(self.trained, config)
        if state.step:
            restore_optimiser(self.optimiser, state.part("optimiser/"))
        #: Sums of what was logged since the last row of the log; on the device, so that nothing waits for it.
        self.sums = {name: value.to(self.device) for name, value in state.part("sums/").items()}
        self.log = TrainingLog(
            self.options.out,
            self.name,
            config.steps,
            state.step,
            alone=len(settings.stages) == 1,
            progress=self.options.progress,
        )
        self.precision = _precision(config, self.device)
        if config.compile == "on" or (config.compile == "auto" and self.device.type == "cuda"):
            self.model.compile()

    def _open_held_out(self) -> TrainingData | None:
        training = self.training
        if not training.sources.validation_fraction:
            return None
        try:
            data = self.recipe.data(training.settings.config, training.facts, training.sources, "validation", self.name)
        except DataError as error:
            training.remark(f"Nothing is held out for validation: {error}")
            return None
        return data if len(data) else None

    def _train(self) -> None:
        state, config = self.state, self.config
        order = DataOrder(len(self.data), config.batch_size, *self.seed)
        log_every = max(1, min(50, config.steps // 100))
        saved = time.monotonic()
        mark_s, mark_step = saved, state.step
        with self.training.interrupts_wait():
            for step, batch in fetched(self.data, order, state.step + 1, config.steps, self.device):
                self._step(step, batch)
                state.step = step
                save_now = step == config.steps
                if step % log_every == 0 or step == config.steps:
                    self._log(step, count=step - (step - 1) // log_every * log_every)
                    now = time.monotonic()
                    self.log.rate(step, (step - mark_step) / max(now - mark_s, 1e-9))
                    mark_s, mark_step = now, step
                if self.held_out is not None and (step % config.validate_every == 0 or step == config.steps):
                    self._note(step, self._validate())
                if self.last and self.training.rollouts:
                    save_now |= self._collect_rollouts(wait=False)
                    if self.training.rollouts.due(step) and step < config.steps:
                        save_now |= self._collect_rollouts(wait=True)
                        self._start_rollouts()
                stop = self.training.interrupted or self._out_of_time()
                if save_now or stop or time.monotonic() - saved > self.options.save_every_s:
                    self._save()
                    saved = time.monotonic()
                if self.training.interrupted:
                    raise KeyboardInterrupt
                if stop:
                    break

    def _step(self, step: int, batch: Batch) -> None:
        moment = self._moment(step, training=True)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, step)
        self.model.train()
        with self._autocast():
            loss, logged = self.recipe.loss(self.model, batch, moment)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.config.clip_norm or math.inf)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        _average(self.averaged, self.model, ema_decay(self.config, step))
        for name, value in {"loss": loss, **logged, "grad_norm": norm}.items():
            value = value.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def _moment(self, step: int, *, training: bool) -> Moment:
        """Seed every generator for a step."""
        stream = "train" if training else "validate"
        torch.manual_seed(stream_seed(*self.seed, stream, step))
        generator = torch.Generator(self.device).manual_seed(stream_seed(*self.seed, stream, step, "loss"))
        return Moment(self.name, step, training, generator)

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, self.precision) if self.precision else nullcontext()

    def _log(self, step: int, count: int) -> None:
        row = {name: float(value) / count for name, value in self.sums.items()}
        self.sums = {}
        if not math.isfinite(row["loss"]):
            raise RunFailed(
                f"The loss is {row['loss']} at step {step} of stage {self.name}. Lower the learning rate (--lr), or shorten "
                "gradients more (--set clip_norm=0.1)."
            )
        self._note(step, row | {"lr": learning_rate(self.config, step)})

    def _note(self, step: int, values: Mapping[str, float]) -> None:
        self.log.add(step, values)
        self.state.metrics |= values
        self.log.show(
            self.state.step, {name: values[name] for name in ("loss", "val_loss", "success") if name in values}
        )

    def _validate(self) -> dict[str, float]:
        """Return the averaged weights' mean losses on held-out samples, the same ones every time."""
        config, held_out = self.config, self.held_out
        order = DataOrder(len(held_out), config.batch_size, *self.seed, "validation")
        count = max(1, min(config.validation_batches, math.ceil(len(held_out) / config.batch_size)))
        sums: dict[str, float] = {}
        with torch.no_grad(), self._autocast():
            for step, batch in fetched(held_out, order, 1, count, self.device):
                loss, logged = self.recipe.loss(self.averaged, batch, self._moment(step, training=False))
                for name, value in {"loss": loss, **logged}.items():
                    sums[f"val_{name}"] = sums.get(f"val_{name}", 0.0) + float(value)
        return {name: value / count for name, value in sums.items()}

    def _start_rollouts(self) -> None:
        rollouts = self.training.rollouts
        if self.training.interrupted:
            return
        rollouts.start(self.state.step, self.training.write_checkpoint(rollouts.folder(self.state.step)).folder)

    def _collect_rollouts(self, *, wait: bool) -> bool:
        """Take in what rollouts found; return whether they had finished."""
        rollouts = self.training.rollouts
        while wait and rollouts.running and not self.training.interrupted:
            time.sleep(0.2)
        found = rollouts.outcome()
        if found is None:
            return False
        if found.success is None:
            self.training.remark(found.remark)
            return True
        self._note(found.step, {"success": found.success})
        if self.state.best_success is None or found.success > self.state.best_success:
            self.state.best_success = found.success
            rollouts.keep_best(found)
        return True

    def _roll_out_at_the_end(self) -> None:
        if self.training.rollouts:
            self._collect_rollouts(wait=True)
            self._start_rollouts()
            self._collect_rollouts(wait=True)

    def _save(self) -> None:
        tensors = {f"optimiser/{name}": value for name, value in optimiser_tensors(self.optimiser).items()}
        self.training.save(tensors | {f"sums/{name}": value for name, value in self.sums.items()})

    def _out_of_time(self) -> bool:
        limit = self.options.time_limit_s
        if limit is None:
            return False
        steps = [config.steps for config in self.training.settings.stages.values()]
        return self.training.seconds() > limit * sum(steps[: self.index + 1]) / sum(steps)


def fetched(
    data: TrainingData, order: DataOrder, first: int, last: int, device: torch.device
) -> Iterator[tuple[int, Batch]]:
    """Yield (step, batch on the device) of steps `first` to `last`, fetched ahead of time by a thread."""
    pinned = device.type == "cuda"

    def fetch(step: int) -> Batch:
        batch = data.batch(order.indices(step))
        return {name: value.pin_memory() for name, value in batch.items()} if pinned else batch

    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    try:
        pending: deque[tuple[int, Future[Batch]]] = deque()
        for step in range(first, last + 1 + PREFETCHED):
            if step <= last:
                pending.append((step, pool.submit(fetch, step)))
            if step >= first + PREFETCHED and pending:
                number, future = pending.popleft()
                yield number, {name: value.to(device, non_blocking=pinned) for name, value in future.result().items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step, counted from 1."""
    if step <= config.warmup_steps:
        return config.lr * step / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.lr * (config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def ema_decay(config: TrainConfig, step: int) -> float:
    """Return the decay of the averaged weights at a step: short memories first, as in TensorFlow's moving average."""
    return min(config.ema_decay, (1 + step) / (10 + step))


def make_optimiser(parameters: Iterable[torch.nn.Parameter], config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW that decays matrices and not biases or norms, as nanoGPT's `configure_optimizers`."""
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr, betas=(0.9, config.beta2))


def start_from(model: torch.nn.Module, checkpoint: Checkpoint, afresh: frozenset[str] = frozenset()) -> str:
    """Fill in every weight of a checkpoint that fits by name and shape, and say which did not.

    Args:
        model: The network.
        checkpoint: Of the same recipe.
        afresh: Names of weights that are left as they are.

    Raises:
        CheckpointError: If none fits.
    """
    own, given = model.state_dict(), checkpoint.weights
    fitting = {
        name: value
        for name, value in given.items()
        if name in own and name not in afresh and own[name].shape == value.shape
    }
    if not fitting:
        raise CheckpointError(f"--init-from {checkpoint.folder}: none of its {len(given)} weights fits this network.")
    model.load_state_dict(fitting, strict=False)
    fresh = [name for name in own if name not in fitting]
    more = f"; these start afresh: {', '.join(fresh[:5])}{', ...' if len(fresh) > 5 else ''}" if fresh else ""
    return f"Started from {len(fitting)} of {len(own)} weights of {checkpoint.folder}{more}."


def _precision(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    """Return the type to compute in; None for float32."""
    if config.precision == "bf16" or (config.precision == "auto" and multiplies_bf16(device)):
        return torch.bfloat16
    return None


def _average(averaged: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    with torch.no_grad():
        pairs = list(zip(averaged.parameters(), model.parameters(), strict=True))
        torch._foreach_lerp_([ours for ours, _ in pairs], [theirs.detach() for _, theirs in pairs], 1 - decay)
        for ours, theirs in zip(averaged.buffers(), model.buffers(), strict=True):
            ours.copy_(theirs)


def _copy_weights(target: torch.nn.Module, source: torch.nn.Module) -> None:
    target.load_state_dict(source.state_dict())


@contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Keep other processes out of a training's folder.

    Raises:
        BadValue: If one is there, or the folder cannot be made.
    """
    lock = FileLock(out / LOCK, timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise BadValue(f"Another process is training in --out {out}. Wait for it, or name another folder.") from None
    except OSError as error:
        raise BadValue(f"--out {out} cannot be written: {error.strerror or error}.") from error
    with lock:
        yield


def _opened_state(recipe: Recipe, settings: Settings, sources: Sources, options: TrainOptions) -> TrainingState:
    """Return where the training in the folder stands, or a new one.

    Raises:
        BadValue: If the folder holds another training; the message names the first difference.
    """
    identity = {
        "recipe": recipe.name,
        "preset": settings.preset,
        "suite": sources.suite.name if sources.suite else None,
        "config": _plain(asdict(settings.config)),
        "stages": {name: _plain(asdict(config)) for name, config in settings.stages.items()},
        "data_files": sorted(path.name for path in sources.file_sha256),
        "data_sha256": sources.sha256,
        **({} if sources.action_paths is None else {"action_data_sha256": sources.action_sha256}),
        "tasks": list(sources.tasks),
        "limit_per_task": sources.limit_per_task,
        "label_fraction": sources.label_fraction,
        "validation_fraction": sources.validation_fraction,
        "seed": options.seed,
        "init_from": options.init_from,
    }
    found = TrainingState.load(options.out)
    if found is None:
        return TrainingState(identity)
    if not options.resume:
        raise BadValue(f"--out {options.out} already holds a training. Leave out --no-resume, or name another folder.")
    difference = _difference(found.identity, identity)
    if difference:
        raise BadValue(f"--out {options.out} holds another training: {difference}. Name another folder.")
    return found


def _difference(found: Any, wanted: Any, name: str = "") -> str:
    """Return the first difference between two plain values, e.g. `lr is 0.001 there and 0.0003 here`."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in {**found, **wanted}:
            difference = _difference(found.get(key), wanted.get(key), key)
            if difference:
                return difference
        return ""
    return "" if found == wanted else f"{name} is {found!r} there and {wanted!r} here"


def _plain(value: Any) -> Any:
    """Return a value as JSON would give it back."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
