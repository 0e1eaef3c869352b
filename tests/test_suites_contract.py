"""Every installed suite keeps the contract, and every broken promise is named."""

import importlib.util
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from flowbench.camera import CameraPose, View
from flowbench.envs.toy.simulator import ToySimulator
from flowbench.envs.toy.suite import TOY
from flowbench.errors import MissingExtra
from flowbench.registry import get_suite, suite_names
from flowbench.simulator import Frame, SimulatorState, StepOutcome
from flowbench.task import ProtocolRules
from flowbench.testing import ContractViolation, check_suite, two_view_agreement


def test_the_toy_suite_keeps_the_contract_in_every_task_and_view():
    check_suite(TOY, tasks=[task.name for task in TOY.tasks], cameras=(*TOY.views, "front+az15+el10", "wrist+yaw10"))


#: One suite per simulator in every run; the others, which share its wrapper, with the slow tests.
OFTEN = ("metaworld11", "libero10", "calvin-d-d", "ithor12-standin")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in suite_names() if name != "toy"],
)
def test_every_installed_suite_keeps_the_contract(name):
    suite = get_suite(name)
    for module in suite.requires:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"suite {name} needs {module!r}: pip install 'flowbench[{suite.extra}]'")
    if (sentence := suite.missing_setup()) is not None:
        pytest.skip(sentence)
    # One simulator and one OpenGL context per process.
    code = f"from flowbench.testing import check_suite; check_suite({name!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_simulator_need_not_tell_its_bodies(monkeypatch):
    monkeypatch.delattr(ToySimulator, "body_poses")
    check_suite(TOY, cameras=("front",))


# --- simulators that break one promise each


class NoClose(ToySimulator):
    close = property()


class OtherViews(ToySimulator):
    views = ("front",)


class BadCenter(ToySimulator):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.workspace_center_world = np.array([0.0, np.nan, 0.0])


class BadPasses(ToySimulator):
    passes = (frozenset({"rgb", "depth"}),)


class BadSettle(ToySimulator):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.settle_action = np.zeros(7)


class DoubleProprio(ToySimulator):
    def proprio(self):
        return super().proprio().astype(np.float64)


class NanProprio(ToySimulator):
    def proprio(self):
        return super().proprio() * np.float32(np.nan)


def changing_frames(change):
    """A simulator whose frames are changed on their way out."""

    class Changed(ToySimulator):
        def render(self, name, camera, modalities):
            return change(super().render(name, camera, modalities), camera)

    return Changed


def with_depth(change):
    def changed(frame, camera):
        return frame if frame.depth_m is None else frame._replace(depth_m=change(frame.depth_m, camera))

    return changing_frames(changed)


NoDepth = with_depth(lambda depth_m, camera: None)
DoubleDepth = with_depth(lambda depth_m, camera: depth_m.astype(np.float64))
TrailingDepth = with_depth(lambda depth_m, camera: depth_m[..., None])
InfiniteDepth = with_depth(lambda depth_m, camera: np.where(depth_m == 0, np.float32(np.inf), depth_m))
NegativeDepth = with_depth(lambda depth_m, camera: np.where(depth_m == 0, np.float32(-1), depth_m))
CentimetreDepth = with_depth(lambda depth_m, camera: depth_m * np.float32(100))


@with_depth
def RayDepth(depth_m, camera):
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    x = (columns - camera.intrinsics[0, 2]) / camera.intrinsics[0, 0]
    y = (rows - camera.intrinsics[1, 2]) / camera.intrinsics[1, 1]
    return (depth_m * np.sqrt(1 + x**2 + y**2)).astype(np.float32)


def turned(*axes):
    return lambda frame, camera: Frame(
        *(None if image is None else np.ascontiguousarray(np.flip(image, axes)) for image in frame)
    )


Mirrored = changing_frames(turned(1))
UpsideDown = changing_frames(turned(0))
Turned = changing_frames(turned(0, 1))
FloatRgb = changing_frames(
    lambda frame, camera: frame if frame.rgb is None else frame._replace(rgb=frame.rgb.astype(np.float32))
)
Black = changing_frames(lambda frame, camera: frame if frame.rgb is None else frame._replace(rgb=frame.rgb * 0))
UnnamedIds = changing_frames(
    lambda frame, camera: (
        frame if frame.segmentation is None else frame._replace(segmentation=frame.segmentation * np.int32(7))
    )
)


class IgnoresTheCamera(ToySimulator):
    def render(self, name, camera, modalities):
        own = CameraPose(name).apply(self.view(name), self.workspace_center_world, camera.width, camera.height)
        return super().render(name, own, modalities)


class WrongFieldOfView(ToySimulator):
    def view(self, name):
        return super().view(name)._replace(fovy_deg=60.0)

    def render(self, name, camera, modalities):
        wrong = replace(camera, intrinsics=camera.intrinsics * [[1.3, 1, 1], [1, 1.3, 1], [1, 1, 1]])
        return super().render(name, wrong, modalities)


class OpenGLAxes(ToySimulator):
    """Renders from a camera whose y and z axes were taken for OpenGL's when it was displaced."""

    def render(self, name, camera, modalities):
        base = self.view(name).camera_to_world
        moved = np.linalg.inv(base) @ camera.camera_to_world
        flip = np.diag([1.0, -1.0, -1.0, 1.0])
        return super().render(name, replace(camera, camera_to_world=base @ flip @ moved @ flip), modalities)


class LeftHanded(ToySimulator):
    def view(self, name):
        view = super().view(name)
        return View(view.camera_to_world @ np.diag([-1.0, 1, 1, 1]), view.fovy_deg, view.mounted)


class InsideTheTable(ToySimulator):
    def enclosing_object(self, point_world):
        return "table"


class NamesBackground(ToySimulator):
    def segmentation_names(self):
        return {0: "background", **super().segmentation_names()}


class SolvedAtOnce(ToySimulator):
    def step(self, action):
        return StepOutcome(super().step(action).reward, True)


class LeavesTheHand(ToySimulator):
    """Its reset leaves the hand where the last episode left it."""

    def reset(self, scenario):
        before = getattr(self, "_state", None)
        super().reset(scenario)
        if before is not None:
            self._state = replace(self._state, hand_x=before.hand_x)


class LeavesThePicture(ToySimulator):
    """Its pictures get darker with every step ever taken."""

    age = 0

    def step(self, action):
        self.age += 1
        return super().step(action)

    def render(self, name, camera, modalities):
        frame = super().render(name, camera, modalities)
        return frame if frame.rgb is None else frame._replace(rgb=frame.rgb - np.uint8(self.age % 4))


class IgnoresTheSeed(ToySimulator):
    def reset(self, scenario):
        super().reset(replace(scenario, seed=0))


class HiddenMomentum(ToySimulator):
    """Half of the last motion goes on, and the state does not say so."""

    last = np.zeros(4)

    def reset(self, scenario):
        super().reset(scenario)
        self.last = np.zeros(4)

    def step(self, action):
        blended = np.clip(action / 2 + self.last / 2, -1, 1)
        self.last = action
        return super().step(blended)


class SharedState(ToySimulator):
    """Hands out its own memory as the state."""

    def __init__(self, *arguments):
        self.memory = np.zeros(12)
        super().__init__(*arguments)

    def get_state(self):
        self.memory[:] = self._state.to_vector()
        return SimulatorState(self.memory)

    def step(self, action):
        outcome = super().step(action)
        self.memory[:] = self._state.to_vector()
        return outcome


class ForgetsTheGoal(ToySimulator):
    def set_state(self, state):
        goal = self._state.goal_x
        super().set_state(state)
        self._state = replace(self._state, goal_x=goal)


class Float32State(ToySimulator):
    def get_state(self):
        return SimulatorState(super().get_state().physics.astype(np.float32))


class ClosesOnce(ToySimulator):
    closed = False

    def close(self):
        if self.closed:
            raise RuntimeError("already closed")
        self.closed = True


class TurnsTheImageItself(ToySimulator):
    """Every second instance mirrors its images, as a wrapper that flips for the policy view would."""

    count = 0

    def __init__(self, *arguments):
        super().__init__(*arguments)
        type(self).count += 1
        self.flip = type(self).count % 2 == 0

    def render(self, name, camera, modalities):
        frame = super().render(name, camera, modalities)
        return turned(1)(frame, camera) if self.flip else frame


class BodiesLagBehind(ToySimulator):
    """Tells where its bodies were before the last step."""

    def step(self, action):
        self.lagging = super().body_poses()
        return super().step(action)

    def body_poses(self):
        return getattr(self, "lagging", super().body_poses())


class BodiesInAnotherOrder(ToySimulator):
    def body_poses(self):
        poses = super().body_poses()
        return np.concatenate([poses[:1], poses[:0:-1]])


class BodiesNeverMove(ToySimulator):
    def body_poses(self):
        return np.tile(np.eye(4), (len(super().body_poses()), 1, 1))


class BodiesWithoutTheWorld(ToySimulator):
    def body_poses(self):
        return super().body_poses()[1:]


BROKEN_SIMULATORS = {
    BodiesLagBehind: "does not explain what camera 'front' shows",
    BodiesInAnotherOrder: "Check that `bodies` and `body_poses` are of the state that is rendered, and in the same order.",
    BodiesNeverMove: "does not explain what camera 'front' shows",
    BodiesWithoutTheWorld: "return float64 (N, 4, 4), the first one the identity.",
    NoClose: "its simulator has no 'close'. Add it as `flowbench.simulator.Simulator` describes.",
    OtherViews: "the suite declares views ('front', 'side', 'wrist') and the simulator has ('front',). Declare what exists.",
    BadCenter: "workspace_center_world is [ 0. nan  0.]; expected a (3,) point in metres.",
    BadPasses: "it must hold rgb, depth and segmentation exactly once.",
    BadSettle: "settle_action has shape (7,); expected (4,) = (dx, dy, dz, gripper) of convention toy-xyz-gripper.",
    DoubleProprio: "proprio is float64 (4,); return float32 (P,).",
    NanProprio: "proprio is not finite.",
    NoDepth: "depth of camera 'front' is None; return it from `render` when it is asked for.",
    DoubleDepth: "depth of camera 'front' is float64 (96, 128); return float32 (96, 128) = (height, width).",
    TrailingDepth: "depth of camera 'front' is float32 (96, 128, 1); return float32 (96, 128) = (height, width).",
    InfiniteDepth: "pixels. Return 0 where nothing was hit.",
    NegativeDepth: "depth of camera 'front' goes down to -1 m. Return metres in front of the camera, and 0 where nothing",
    FloatRgb: "rgb of camera 'front' is float32 (96, 128, 3); return uint8 (96, 128, 3) = (height, width, 3).",
    Black: "the image of camera 'front' is blank. Check its pose, its lights,",
    UnnamedIds: "segmentation of camera 'front' holds ids [7, 14, 21, 28] without a name. Name them in segmentation_names, or",
    NamesBackground: "segmentation_names names id 0, which is the background. Count objects from 1.",
    InsideTheTable: "camera 'front' is inside an object (table). Move it, or mend enclosing_object.",
    LeftHanded: "the pose of camera 'front' is not a right-handed rotation. Mirror images with fx < 0, never the pose.",
    CentimetreDepth: "camera 'front' is not calibrated: seen again from front+yaw5+pitch4+x0.02, the depth of",
    RayDepth: "depth is along the optical axis",
    Mirrored: "camera 'front' is not calibrated",
    UpsideDown: "camera 'front' is not calibrated",
    Turned: "camera 'front' is not calibrated",
    IgnoresTheCamera: "Check that `render` uses the pose and field of view it is given",
    WrongFieldOfView: "camera 'front' is not calibrated",
    OpenGLAxes: "camera 'front' is not calibrated",
    SolvedAtOnce: "the scenario is solved by the first, random, step.",
    LeavesTheHand: "physics differs when scenario s000 is reset again after other episodes. Draw everything from the",
    LeavesThePicture: "front/rgb differs when scenario s000 is reset again after other episodes.",
    IgnoresTheSeed: "scenarios s000 and s001 start from the same state. Use the scenario's seed and init_state.",
    HiddenMomentum: "physics differs 1 steps after set_state. Put whatever the future depends on",
    SharedState: "a state from get_state changes when the simulator moves on (physics). Copy it.",
    ForgetsTheGoal: "get_state after set_state is not the state that was set (physics). Restore all of it.",
    Float32State: "get_state gives physics that is not a flat float64 vector.",
    ClosesOnce: "`close` cannot be called twice: RuntimeError('already closed'). Let the second call do nothing.",
    TurnsTheImageItself: "in the policy image view is not the geometric image, mirrored.",
}
# Import strings need a name that the module knows; those made by a function have none of their own.
NAMES = {value: name for name, value in list(globals().items()) if isinstance(value, type)}


@pytest.mark.parametrize("simulator", BROKEN_SIMULATORS, ids=lambda simulator: NAMES[simulator])
def test_a_broken_simulator_is_named_with_what_to_do(simulator):
    suite = replace(TOY, simulator=f"{__name__}:{NAMES[simulator]}")
    with pytest.raises(ContractViolation) as caught:
        check_suite(suite, tasks=("push",))
    assert str(caught.value).startswith("Suite toy, task push: ")
    assert BROKEN_SIMULATORS[simulator] in str(caught.value)


def with_task(**changes):
    return replace(TOY, tasks=(replace(TOY.task("push"), **changes),))


@pytest.mark.parametrize(
    ("suite", "sentence"),
    [
        (
            replace(TOY, views=("front", "side+x1", "wrist")),
            "Suite toy has a view 'side+x1'; '+' separates offsets. Rename the view.",
        ),
        (replace(TOY, default_view="top"), "Suite toy has default view 'top', which is not one of its views"),
        (with_task(instruction=" "), "its instruction is empty. Write one sentence."),
        (
            with_task(targets=("cube",)),
            "its target 'cube' is not a segmentation name. Names are: block, goal, gripper, table.",
        ),
        (
            with_task(action_spec=replace(TOY.task("push").action_spec, low=(-1.0, -1.0, 1.0, -1.0))),
            "Give one increasing pair each.",
        ),
    ],
)
def test_a_broken_suite_is_named_with_what_to_do(suite, sentence):
    with pytest.raises(ContractViolation) as caught:
        check_suite(suite, tasks=("push",))
    assert sentence in str(caught.value)


def test_a_suite_without_its_simulator_is_missing_not_wrong():
    with pytest.raises(MissingExtra):
        check_suite(replace(TOY, requires=("no_such_simulator",), extra="toy"))


def test_a_suite_is_checked_under_its_own_default_protocol():
    seen = []

    class Rules(ProtocolRules):
        def __getattribute__(self, name):
            seen.append(name)
            return super().__getattribute__(name)

    check_suite(replace(TOY, protocols={"mine": Rules("mine", horizon=100)}), tasks=("push",), cameras=("front",))
    assert "horizon" in seen and "settle_steps" in seen


def test_two_views_of_an_exact_scene_agree_almost_everywhere_and_shifted_ones_do_not():
    simulator = TOY.make_simulator(TOY.task("push"), TOY.rules(), type("Render", (), {"profile": "full"})())
    wanted = frozenset({"depth", "segmentation"})
    cameras = [
        CameraPose.parse(text).apply(simulator.view("front"), simulator.workspace_center_world, 128, 96)
        for text in ("front", "front+yaw5+pitch4+x0.02", "front+yaw6+pitch4+x0.02")
    ]
    first, second, wrong = cameras
    frames = [simulator.render("front", camera, wanted) for camera in cameras]
    right = two_view_agreement(first, frames[0], second, frames[1])
    assert right.points > 0.97 and right.objects > 0.85
    one_degree_off = two_view_agreement(first, frames[0], wrong, frames[1])
    assert one_degree_off.objects < right.objects - 0.1
