"""Flow2Action without learning: the flow of the hand's own pixels, their depth and calibration give the hand's path.

The paper's learning-free variant is "AVDC-style geometry with depth and segmentation", without details. AVDC follows the
object, whose motion spans a whole episode; a skill block is 32 steps long and mostly shows the hand on its way, so here the hand
is what is followed, with AVDC's robust tracker (`flowbench.agents.geometry`). Fingers hardly flow: they close where the hand has
come to the task's object, and open where it is far from it.
"""

from __future__ import annotations

import re

import numpy as np

from flowbench.agents.avdc.hands import hand_of
from flowbench.agents.avdc.object_points import ObjectUnseen, object_targets, surface_points
from flowbench.agents.avdc.plan_flow import FlowReader, PlanFlow
from flowbench.agents.geometry.object_motion import TrackingRules, tracked_motion
from flowbench.agents.planning import Plan, Window
from flowbench.agents.sof.config import SofConfig
from flowbench.errors import AgentError
from flowbench.observation import Observation
from flowbench.task import Task

#: By simulator family: names of `segmentation_names` that move rigidly with the hand, all but the arm.
HAND_NAMES = {
    "metaworld": r"hand(/.*)?|(left|right)(pad|claw)(/.*)?|right_hand(/.*)?|site/(left|right)EndEffector",
    "libero": r"gripper",
    "toy": r"gripper",
}
#: How far ahead on its path the hand aims, in steps: 20 units per metre of a path of a centimetre a step are full speed.
LOOKAHEAD = 5
#: About how wrong decoded flow is, in pixels of the image.
NOISE_PX = 1.0
#: The fingers close within this distance of the object sideways, and open again beyond the second.
CLOSE_M, OPEN_M = 0.03, 0.12


class GeometricFlow2Action:
    """The hand's path in a plan, and one action after the other along it."""

    def __init__(self, task: Task, config: SofConfig, seed: int) -> None:
        """Prepare for an episode.

        Args:
            task: What is asked; names the object, and the robot by its action convention.
            config: Of the skills.
            seed: Draws among the hand's pixels.

        Raises:
            UnknownName: If the robot's hand is not known.
            AgentError: If nobody knows what the robot looks like in this suite.
        """
        if task.family not in HAND_NAMES:
            raise AgentError(
                f"act=geometry knows the hand's pixels in {', '.join(HAND_NAMES)}, not in {task.family}. Use act=learned."
            )
        self._task, self._config = task, config
        self._hand = hand_of(task.action_spec.convention)
        self._pattern = re.compile(HAND_NAMES[task.family])
        self._rng = np.random.default_rng(seed)
        self._reader = FlowReader(PlanFlow("sof", both_ways=False), None)
        self._path_world = np.zeros((1, 3))
        self._object_world: np.ndarray | None = None
        self._place, self._closed = 0, False
        #: Whether the hand was seen at the last plan.
        self.found = False

    def take(self, observation: Observation, content: np.ndarray) -> None:
        """Adopt a plan.

        Args:
            observation: What was seen when it was made, with depth, segmentation and calibration.
            content: (K, 2, h, w) flow as a share of the image, of the next K steps.
        """
        camera = observation.camera_params()
        width, height = self._config.crop or (camera.width, camera.height)
        window = Window((camera.width - width) // 2, (camera.height - height) // 2, width, height)
        small = np.moveaxis(content, 1, -1)
        flow_px = small * np.array(small.shape[2:0:-1], np.float32)
        chain = self._reader.read(Plan(observation.instruction, 0, window, flow_px=flow_px.astype(np.float32)), camera)
        depth_m, hand_world = observation.depth_m(), observation.proprio[:3].astype(np.float64)
        self._place = 0
        try:
            points = surface_points(self._mask(observation), chain.inside, depth_m, camera, self._rng)
            motion = tracked_motion(
                points.points_world, points.pixels, chain, camera, TrackingRules.for_noise(NOISE_PX)
            )
            self._path_world, self.found = motion.path_world(hand_world), True
        except ObjectUnseen:
            # Out of sight: it stays where it is, until it is asked again.
            self._path_world, self.found = np.repeat(hand_world[None], len(content) + 1, 0), False
        try:
            mask = observation.mask(*object_targets(self._task))
            seen = surface_points(mask, np.ones_like(mask), depth_m, camera, self._rng, palm_m=self._hand.palm_m)
            self._object_world = seen.contact_world
        except ObjectUnseen:
            pass

    def command(self, hand_world: np.ndarray) -> np.ndarray:
        """Return the (A,) action of the next step of the path, given where the hand is, (3,) metres."""
        self._place += 1
        target = self._path_world[min(self._place + LOOKAHEAD, len(self._path_world) - 1)]
        if self._object_world is not None:
            apart = self._object_world - hand_world
            sideways = float(np.linalg.norm(apart[:2]))
            if sideways > OPEN_M:
                self._closed = False
            elif sideways < CLOSE_M and abs(apart[2]) < self._hand.close_within_m:
                self._closed = True
        return self._hand.action(self._task.action_spec, hand_world, target, self._closed)

    def _mask(self, observation: Observation) -> np.ndarray:
        segmentation = observation.segmentation()
        names = observation.segmentation_names
        return np.isin(segmentation, [number for number, name in names.items() if self._pattern.fullmatch(name)])
