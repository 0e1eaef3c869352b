"""Pixels that changed without a word are noticed before an evaluation."""

import json
from dataclasses import replace

import numpy as np
import pytest

import flowbench
from flowbench import fingerprint, preflight
from flowbench.registry import get_suite

TOY = get_suite("toy")


@pytest.fixture
def toy_with_reference(monkeypatch):
    env = flowbench.make("toy", "reach", modalities=("rgb",))
    rgb = env.reset(options={"scenario": fingerprint.first_scenario(TOY)})[0]["front/rgb"]
    reference = {"toy": fingerprint.coarse_colours(rgb).tolist()}
    monkeypatch.setattr(fingerprint, "_references", lambda location: reference)
    return replace(TOY, fingerprints="somewhere"), rgb


def test_the_reference_machine_agrees_with_itself(toy_with_reference):
    suite, rgb = toy_with_reference
    assert fingerprint.deviation(suite, rgb) == 0
    assert "pixels as expected" in fingerprint.describe_deviation(suite, 0.0)


def test_a_darker_floor_is_noticed(toy_with_reference):
    suite, rgb = toy_with_reference
    darker = rgb.copy()
    darker[48:] = darker[48:] * 0.9
    grey_levels = fingerprint.deviation(suite, darker)
    assert grey_levels > fingerprint.TOLERANCE
    assert "the pixels of toy differ from the reference by" in fingerprint.describe_deviation(suite, grey_levels)


def test_another_image_size_of_the_same_aspect_agrees(toy_with_reference):
    suite, _ = toy_with_reference
    for size in ((64, 48), (256, 192)):
        env = flowbench.TaskEnv(suite, suite.tasks[0], suite.rules(), flowbench.EnvConfig(("front",), image_size=size))
        assert preflight.compare_pixels(env) < fingerprint.TOLERANCE


def test_another_frame_is_not_compared(toy_with_reference):
    suite, _ = toy_with_reference
    for task, config in (
        (1, {}),
        (0, {"profile": "fast"}),
        (0, {"image_size": (64, 64)}),
        (0, {"image_size": (60, 45)}),
    ):
        env = flowbench.TaskEnv(suite, suite.tasks[task], suite.rules(), flowbench.EnvConfig(("front",), **config))
        assert preflight.compare_pixels(env) is None


def test_a_suite_without_a_reference_is_not_compared():
    assert fingerprint.deviation(TOY, np.zeros((96, 128, 3), np.uint8)) is None


@pytest.mark.parametrize(
    "name", ["metaworld11", "metaworld-mt10", "metaworld-mt50", "libero10", "libero-object", "libero90"]
)
def test_every_simulator_suite_ships_its_reference(name):
    suite = get_suite(name)
    reference = np.array(fingerprint._references(suite.fingerprints)[name])
    assert reference.shape == (*reversed(fingerprint.GRID), 3)
    assert reference.std() > 5
    assert json.dumps(reference.tolist())
