"""Pixels are robosuite's, and calibration agrees with them: in every scene, camera and pose."""

from dataclasses import replace

import numpy as np
import pytest

from flowbench.camera import random_pose
from flowbench.registry import get_suite
from flowbench.task import Scenario

pytest.importorskip("libero", reason="needs flowbench[libero]")
import mujoco

import flowbench
from flowbench.envs.libero.reset import fixture_seed

pytestmark = pytest.mark.usefixtures("opengl")

CAMERAS = ("agentview", "robot0_eye_in_hand")
# A kitchen, a living room and a study, as (suite, index).
SCENES = [("libero10", 8), ("libero10", 0), ("libero10", 5)]
MOUNTED = {"robot0_eye_in_hand"}


def start(simulator, steps=6):
    """Go to a state in which the arm moves."""
    simulator.reset(Scenario(0, 1))
    for action in np.random.default_rng(0).uniform(-1, 1, (steps, 7)):
        simulator.step(action)


@pytest.mark.parametrize("name, index, view", [("libero-goal", 7, "geometric"), ("libero10", 0, "policy")])
def test_pixels_are_robosuites_in_both_image_views(name, index, view, make_upstream):
    task, scenario = get_suite(name).tasks[index], Scenario(0, 4)
    upstream = make_upstream(task.name, cameras=CAMERAS)
    env = flowbench.make(name, task.name, cameras=CAMERAS, modalities=("rgb",), image_view=view, lazy=True)
    # Without settle steps, to compare the very first state too.
    env.rules = replace(env.rules, settle_steps=0)

    def check(ours, theirs):
        for camera in CAMERAS:
            buffer = theirs[f"{camera}_image"]
            assert buffer.std() > 10
            # OpenVLA's `get_libero_image` turns the bottom-up buffer by half a turn.
            expected = buffer[::-1] if view == "geometric" else buffer[::-1, ::-1]
            np.testing.assert_array_equal(ours[f"{camera}/rgb"], expected)

    theirs = upstream.start(fixture_seed(task.name, scenario), scenario.init_state)
    ours, _ = env.reset(options={"scenario": scenario})
    check(ours, theirs)
    for action in np.random.default_rng(3).uniform(-1, 1, (5, 7)):
        upstream.env.step(action)
        ours, *_ = env.step(action)
    check(ours, upstream.observe_now())
    env.close()


def test_segmentation_agrees_with_robosuites_instances(simulators, look):
    simulator = simulators("libero-goal", 7)
    start(simulator)
    domain = simulator.control_env.env
    frame, _ = look(simulator, "agentview", "segmentation")
    elements = simulator._renderer.render("agentview", look(simulator, "agentview")[1], {"segmentation"}).element_ids
    names = {0: None, **simulator.segmentation_names()}
    parts = {"MountedPanda0": "robot", "RethinkMount0": "robot", "PandaGripper0": "gripper"}
    instances = domain.model.geom_ids_to_instances
    ngeom = domain.sim.model.ngeom
    seen = set()
    for element in np.unique(elements):
        if 0 <= element < ngeom:
            instance = instances.get(int(element))
            (label,) = np.unique(frame.segmentation[elements == element])
            assert names[label] == parts.get(instance, instance)
            seen.add(names[label])
    assert {"robot", "gripper", "wooden_cabinet_1", "flat_stove_1", "akita_black_bowl_1", None} <= seen


def test_what_is_invisible_in_colour_has_neither_depth_nor_id(simulators, look):
    simulator = simulators("libero-goal", 7)
    start(simulator)
    model, rod = simulator.model, simulator.model.site("gripper0_grip_site_cylinder").id
    element = model.ngeom + rod
    colours = model.site_rgba.copy()
    assert colours[rod, 3] < 0, "robosuite hides its aiming rod by a negative opacity"

    def frame(modalities=("rgb", "depth", "segmentation")):
        _, camera = look(simulator, "agentview")
        return simulator._renderer.render("agentview", camera, frozenset(modalities))

    hidden = frame()
    alone = frame(("depth", "segmentation"))
    np.testing.assert_array_equal(model.site_rgba, colours)
    try:
        model.site_rgba[rod, 3] = 1
        shown = frame()
    finally:
        model.site_rgba[:] = colours
    on_rod = shown.element_ids == element
    assert on_rod.sum() > 30, "the rod would be seen"
    for seen in (hidden, alone):
        assert not (seen.element_ids == element).any()
        assert (seen.depth_m[on_rod] > shown.depth_m[on_rod]).mean() > 0.9, "what lies behind the rod is measured"


def test_object_masks_lie_on_the_objects(simulators, look):
    simulator = simulators("libero-goal", 7)
    start(simulator)
    model, data = simulator.model, simulator.data
    roots = {name: f"{name}_main" for name in simulator.segmentation_names().values() if name[-1].isdigit()}
    for camera in ("agentview", "agentview+az30+el-10", "frontview", "sideview"):
        frame, params = look(simulator, camera, "depth", "segmentation")
        points_world = params.unproject_image(frame.depth_m)
        for label, name in simulator.segmentation_names().items():
            mask = frame.segmentation == label
            if name not in roots or mask.sum() < 20:
                continue
            root = model.body(roots[name]).id
            geoms = [g for g in range(model.ngeom) if model.body_rootid[model.geom_bodyid[g]] == root]
            distance_m = np.linalg.norm(points_world[mask][:, None] - data.geom_xpos[geoms], axis=-1)
            outside_m = (distance_m - model.geom_rbound[geoms]).min(axis=1)
            assert outside_m.max() < 0.002, (camera, name)


def test_frames_are_upright_and_only_the_policy_view_is_mirrored():
    found = {}
    for view in ("geometric", "policy"):
        env = flowbench.make(
            "libero-goal", "turn_on_the_stove", modalities=("segmentation", "depth", "calibration"), image_view=view
        )
        observation, info = env.reset(options={"scenario": Scenario(0, 0)})
        ids = {name: label for label, name in info["segmentation_names"].items()}
        where = {name: np.argwhere(observation["agentview/segmentation"] == ids[name]).mean(axis=0) for name in ids}
        camera = env.cameras["agentview"]
        assert camera.mirrored == (view == "policy")
        # The law holds in both views: a mask's mean 3-D point projects near the mask's middle.
        mask = observation["agentview/segmentation"] == ids["plate_1"]
        middle_world = camera.unproject_image(observation["agentview/depth"])[mask].mean(axis=0)
        column, row = camera.project(middle_world).pixels
        assert abs(row - where["plate_1"][0]) < 3 and abs(column - where["plate_1"][1]) < 1
        # Up is up: a point above another one is higher in the image.
        above = camera.project(middle_world + [0, 0, 0.1]).pixels
        assert above[1] < row - 5
        found[view] = where
        env.close()
    # The camera faces the robot, so world +y is to its right: the cabinet stands at y < 0 and the stove at y > 0.
    assert found["geometric"]["wooden_cabinet_1"][1] < found["geometric"]["flat_stove_1"][1]
    assert found["policy"]["wooden_cabinet_1"][1] > found["policy"]["flat_stove_1"][1]


class Marker:
    """A small bright ball anywhere in a scene: ground truth for calibration that does not go through it.

    It borrows a site of the scene and puts it back.
    """

    def __init__(self, simulator):
        self.model = simulator.model
        self.data = simulator.data
        self.simulator = simulator
        # A site of the robot's base, which is turned against no one.
        self.site = next(s for s in range(self.model.nsite) if self.model.body_weldid[self.model.site_bodyid[s]] == 0)
        self.arrays = ("site_pos", "site_quat", "site_size", "site_rgba", "site_type", "site_sameframe", "site_bodyid")
        self.before = [getattr(self.model, name)[self.site].copy() for name in self.arrays]

    def place(self, position_world, radius_m):
        model = self.model
        model.site_bodyid[self.site] = 0
        model.site_sameframe[self.site] = 0
        model.site_type[self.site] = mujoco.mjtGeom.mjGEOM_SPHERE
        model.site_size[self.site] = radius_m
        model.site_rgba[self.site] = 1
        model.site_pos[self.site], model.site_quat[self.site] = position_world, [1, 0, 0, 0]
        mujoco.mj_kinematics(model, self.data)

    def remove(self):
        for name, value in zip(self.arrays, self.before, strict=True):
            getattr(self.model, name)[self.site] = value
        mujoco.mj_kinematics(self.model, self.data)


def marker_error_px(simulator, marker, look, camera, rng):
    """Put a ball in front of a camera, and return how far from its projection its image is, in pixels."""
    frame, params = look(simulator, camera, "depth")
    pixel = rng.uniform(60, 196, 2)
    column, row = np.rint(pixel).astype(int)
    window = frame.depth_m[row - 20 : row + 21, column - 20 : column + 21]
    depth_m = 0.6 * (window[window > 0].min() if (window > 0).any() else 2.0)
    center_world = params.unproject(pixel, np.array(depth_m))
    radius_m = 0.02 * depth_m
    marker.place(center_world, radius_m)
    try:
        frame = simulator._renderer.render(camera.split("+")[0], params, {"depth", "segmentation"})
    finally:
        marker.remove()
    mask = frame.element_ids == marker.model.ngeom + marker.site
    focal_px = params.intrinsics[1, 1]
    assert 0.8 < mask.sum() / (np.pi * (focal_px * 0.02) ** 2) < 1.5, f"{camera}: the ball is not in the picture"
    # The depth of the ball's front, straight from the renderer.
    np.testing.assert_allclose(frame.depth_m[row, column], depth_m, atol=1.1 * radius_m)
    np.testing.assert_array_less(frame.depth_m[row, column], depth_m)
    rows, columns = np.nonzero(mask)
    projected = params.project(center_world).pixels
    return float(np.hypot(columns.mean() - projected[0], rows.mean() - projected[1]))


def check_reprojection(simulator, look, poses_per_scene):
    start(simulator)
    rng = np.random.default_rng(0)
    marker = Marker(simulator)
    cameras = [*simulator.views]
    for number in range(poses_per_scene):
        cameras.append(str(random_pose(simulator.views[number % len(simulator.views)], rng)))
    errors_px = {camera: marker_error_px(simulator, marker, look, camera, rng) for camera in cameras}
    assert len(errors_px) == len(simulator.views) + poses_per_scene
    worst = max(errors_px, key=errors_px.get)
    assert errors_px[worst] < 0.5, f"{worst}: {errors_px[worst]:.3f} px"
    return errors_px


@pytest.mark.parametrize("name, index", SCENES[:2])
def test_a_ball_appears_where_its_position_projects(name, index, simulators, look):
    check_reprojection(simulators(name, index), look, poses_per_scene=8)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(10))
def test_a_ball_appears_where_its_position_projects_in_every_libero10_scene(index, simulators, look):
    check_reprojection(simulators("libero10", index), look, poses_per_scene=20)


def test_two_views_agree_on_where_surfaces_are(simulators, look):
    simulator = simulators("libero10", 8)
    start(simulator)
    one, one_params = look(simulator, "agentview", "depth")
    for camera in ("agentview+az10", "agentview+x0.05+yaw-3", "agentview+el8+roll5"):
        other, other_params = look(simulator, camera, "depth")
        seen = (one.depth_m > 0) & (one.depth_m < 3)
        projected = other_params.project(one_params.unproject_image(one.depth_m)[seen])
        pixels = np.rint(projected.pixels).astype(int)
        inside = ((pixels >= 0) & (pixels < other.depth_m.shape[0])).all(axis=1)
        assert inside.mean() > 0.5
        found_m = other.depth_m[pixels[inside, 1], pixels[inside, 0]]
        difference_m = np.abs(found_m - projected.depth_m[inside])
        # Points hidden from the other camera do not count; rounding to a pixel costs a millimetre or two on a slope.
        assert np.median(difference_m) < 0.002
        assert (difference_m < 0.01).mean() > 0.85


def test_mounted_cameras_are_known_and_follow_the_hand(simulators):
    simulator = simulators("libero10", 0)
    simulator.reset(Scenario(0, 0))
    before = {name: simulator.view(name) for name in simulator.views}
    assert {name for name, view in before.items() if view.mounted} == MOUNTED
    for _ in range(5):
        simulator.step(np.array([0, 0, -1.0, 0, 0, 0, -1]))
    for name in simulator.views:
        moved = not np.array_equal(simulator.view(name).camera_to_world, before[name].camera_to_world)
        assert moved == (name in MOUNTED), name


def test_the_fast_profile_draws_the_same_scene_with_other_light(simulators, look):
    env = flowbench.make("libero-goal", "turn_on_the_stove", modalities=("rgb", "depth"), profile="fast")
    fast, _ = env.reset(options={"scenario": Scenario(0, 0)})
    env.close()
    env = flowbench.make("libero-goal", "turn_on_the_stove", modalities=("rgb", "depth"))
    full, _ = env.reset(options={"scenario": Scenario(0, 0)})
    env.close()
    np.testing.assert_array_equal(fast["agentview/depth"], full["agentview/depth"])
    difference = np.abs(fast["agentview/rgb"].astype(int) - full["agentview/rgb"])
    assert 0 < difference.mean() < 12


def test_a_camera_inside_something_is_known_by_name(simulators):
    simulator = simulators("libero-goal", 7)
    simulator.reset(Scenario(0, 0))
    cabinet = simulator.data.body("wooden_cabinet_1_main").xpos
    assert simulator.enclosing_object(cabinet + [0, 0, -1.5]) is not None  # Below the floor.
    assert simulator.enclosing_object(simulator.workspace_center_world + [0, 0, 0.5]) is None
    assert simulator.enclosing_object(simulator.data.body("robot0_link0").xpos + [0, 0, 0.05]) == "robot"
    for name in simulator.views:
        assert simulator.enclosing_object(simulator.view(name).camera_to_world[:3, 3]) is None, name
