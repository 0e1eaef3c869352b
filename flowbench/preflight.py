"""What is checked before an evaluation starts, because finding it after ten hours is worse.

One episode per task is started for real: the agent is asked once, every camera is rendered, its calibration is tested
against a second, slightly displaced view, and nothing is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flowbench.agent import ActionChunker
from flowbench.camera import CameraPose
from flowbench.env import TaskEnv
from flowbench.errors import ActionError, FlowBenchError, PreflightError, unknown_name
from flowbench.fingerprint import TOLERANCE, describe_deviation, deviation, first_scenario
from flowbench.rollout import describe_exception, seed_globals
from flowbench.simulator import OBSERVABLE_MODALITIES, RENDERED_MODALITIES
from flowbench.spec import EpisodeSpec
from flowbench.suite import load_object
from flowbench.view_agreement import BLANK_STD, SECOND_VIEW, two_view_agreement

if TYPE_CHECKING:
    from flowbench.runner import EpisodeRunner

#: In an evaluation a whole image may be one object at arm's length, so fewer points need to agree than in a contract test;
#: a wrong calibration loses nearly all of them.
AGREEING_SHARE = 0.7


@dataclass(frozen=True)
class PreflightReport:
    """What the preflight saw.

    Attributes:
        privileged: Whether the agent reads simulator state.
        modalities: What the agent sees of each camera.
        checked: Ids of the episodes that were tried.
        cameras: One line per camera about what it shows.
        renderer: What draws the images; empty when nothing is rendered.
        pixels: How a known frame compares with the suite's reference; empty when it was not drawn.
        warnings: What will go wrong in some of the tasks.
    """

    privileged: bool
    modalities: tuple[str, ...]
    checked: tuple[str, ...]
    cameras: Mapping[str, str] = field(default_factory=dict)
    renderer: Mapping[str, str] = field(default_factory=dict)
    pixels: str = ""
    warnings: tuple[str, ...] = ()


def preflight(runner: EpisodeRunner, episodes: list[EpisodeSpec]) -> PreflightReport:
    """Try the start of each episode.

    Raises:
        PreflightError: If the agent and the suite do not fit, a camera shows nothing, or its calibration is wrong.
    """
    needs = runner.agent.needs
    name = runner.spec.agent.name
    for modality in needs.modalities:
        if modality not in OBSERVABLE_MODALITIES:
            raise unknown_name("modality", modality, OBSERVABLE_MODALITIES, f"Agent {name}'s needs:")
    cameras: dict[str, str] = {}
    renderer: Mapping[str, str] = {}
    failures: list[str] = []
    warnings: list[str] = []
    pixels = ""
    for episode in episodes:
        env = runner.env(episode)
        convention = env.task.action_spec.convention
        if needs.action_convention not in (None, convention):
            raise PreflightError(
                f"Agent {name} returns actions of convention {needs.action_convention!r}; suite {env.suite.name} takes "
                f"{convention!r} ({', '.join(env.task.action_spec.labels)})."
            )
        failures += _try_agent(runner, env, episode)
        if (RENDERED_MODALITIES | {"flow"}) & set(env.config.modalities):
            for camera in env.poses.values():
                cameras.setdefault(str(camera), check_camera(env, camera))
            if (grey_levels := compare_pixels(env)) is not None:
                pixels = describe_deviation(env.suite, grey_levels)
                if grey_levels > TOLERANCE:
                    warnings.append(pixels[0].upper() + pixels[1:] + ".")
            if not renderer and env.suite.describe_renderer:
                renderer = load_object(env.suite.describe_renderer)()._asdict()
    if failures and len(failures) == len(episodes):
        raise PreflightError(failures[0])
    checked = tuple(episode.id for episode in episodes)
    return PreflightReport(
        privileged=needs.privileged,
        modalities=tuple(needs.modalities),
        checked=checked,
        cameras=cameras,
        renderer=renderer,
        pixels=pixels,
        warnings=tuple(dict.fromkeys([*failures, *warnings])),
    )


def check_camera(env: TaskEnv, pose: CameraPose) -> str:
    """Check that a camera shows something and is calibrated, and say what it shows.

    Raises:
        PreflightError: If it is blank, inside an object, not finite, or its calibration contradicts its depth.
    """
    simulator = env.simulator
    params = pose.apply(simulator.view(pose.view), simulator.workspace_center_world, *env.size_of(pose.view))
    what = f"Camera {str(pose)!r} of {env.suite.name}/{env.task.name}"
    enclosing = simulator.enclosing_object(params.camera_to_world[:3, 3])
    if enclosing is not None:
        raise PreflightError(f"{what} is inside an object ({enclosing}). Choose a smaller displacement.")
    frame = simulator.render(pose.view, params, RENDERED_MODALITIES)
    depth_m = frame.depth_m
    if not np.all(np.isfinite(depth_m)) or depth_m.min() < 0:
        raise PreflightError(f"{what} gives depth that is not finite or negative; run flowbench doctor.")
    hit = depth_m > 0
    if frame.rgb.std() < BLANK_STD or hit.mean() < 0.01:
        raise PreflightError(
            f"{what} shows a blank image: it looks at nothing, or is inside an object. Choose another pose."
        )
    second_params = pose.displaced(*SECOND_VIEW).apply(
        simulator.view(pose.view), simulator.workspace_center_world, *env.size_of(pose.view)
    )
    second = simulator.render(pose.view, second_params, RENDERED_MODALITIES)
    share = two_view_agreement(params, frame, second_params, second).points
    if share < AGREEING_SHARE:
        raise PreflightError(
            f"{what} is not calibrated: its depth, seen again from 2 cm and 6 degrees beside it, agrees for {share:.0%} of the "
            f"points; at least {AGREEING_SHARE:.0%} are expected."
        )
    near_m, far_m = np.percentile(depth_m[hit], [1, 99])
    return f"depth {near_m:.2f} to {far_m:.2f} m, {hit.mean():.0%} of the pixels hit, two views agree on {share:.0%}"


def compare_pixels(env: TaskEnv) -> float | None:
    """Return how far the suite's known frame is from its reference, in grey levels; None where this is not that frame."""
    suite = env.suite
    width, height = env.image_size
    same_aspect = width * suite.image_size[1] == height * suite.image_size[0]
    # Much smaller images alias fine textures, and their colours stray as far as a real change does.
    comparable = same_aspect and 2 * width >= suite.image_size[0] and env.config.profile == "full"
    if env.task.name != suite.tasks[0].name or not comparable:
        return None
    env.reset(options={"scenario": first_scenario(suite)})
    params = CameraPose(suite.default_view).apply(
        env.simulator.view(suite.default_view), env.simulator.workspace_center_world, width, height
    )
    rgb = env.simulator.render(suite.default_view, params, frozenset({"rgb"})).rgb
    return deviation(suite, rgb)


def _try_agent(runner: EpisodeRunner, env: TaskEnv, episode: EpisodeSpec) -> list[str]:
    """Ask the agent once; return what failed in a way that other episodes may survive."""
    name = runner.spec.agent.name
    observation, _ = env.reset(options={"scenario": episode.scenario})
    chunker = ActionChunker(runner.agent)
    try:
        seed_globals(episode.agent_seed)
        chunker.reset(env.asked, env.cameras, episode.agent_seed)
        action = chunker.act(observation)
        env.task.action_spec.validate(action, clip=env.config.clip_actions)
    except ActionError as error:
        raise PreflightError(f"The first action of agent {name} on {episode.id} {error}.") from error
    except FlowBenchError as error:
        raise PreflightError(f"Agent {name} cannot run {episode.id}: {error}") from error
    except Exception as error:
        return [f"Agent {name} fails on its first look at {episode.id}. {describe_exception(error, name, 0)}"]
    return []
