"""Action specs: what is refused, and the sentence that says why."""

import numpy as np
import pytest

from flowbench.errors import ActionError
from flowbench.task import ActionSpec

SPEC = ActionSpec("test-xy-gripper", ("dx", "dy", "gripper"), (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0))


def test_a_valid_action_comes_back_as_float64():
    vector = SPEC.validate([0, 1, 0.5])
    assert vector.dtype == np.float64
    assert vector.tolist() == [0.0, 1.0, 0.5]


def test_validation_does_not_change_its_argument():
    action = np.array([0.5, 1 + 1e-6, 0.0])
    SPEC.validate(action)
    assert action[1] == 1 + 1e-6


def test_float32_rounding_is_forgiven_and_clipped_away():
    vector = SPEC.validate(np.array([1.000001, -1.000001, -1e-6], dtype=np.float32))
    assert vector.tolist() == [1.0, -1.0, 0.0]


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (np.zeros(2), "has shape (2,); expected (3,) = (dx, dy, gripper) of convention test-xy-gripper"),
        (np.zeros((1, 3)), "has shape (1, 3); expected (3,) = (dx, dy, gripper) of convention test-xy-gripper"),
        (None, "has shape (); expected (3,) = (dx, dy, gripper) of convention test-xy-gripper"),
        ("left", "is not numeric: 'left'; expected (3,) = (dx, dy, gripper) of convention test-xy-gripper"),
        ([[1, 2], [3]], "is not numeric: [[1, 2], [3]]; expected (3,) = (dx, dy, gripper)"),
        ([0, np.nan, 0], "has dy = nan; every component must be finite"),
        ([0, 0, np.inf], "has gripper = inf; every component must be finite"),
        ([0, 1.5, 0], "has dy = 1.5, outside [-1, 1]; return it in range, or allow clipping with --clip-actions"),
        ([0, 0, -0.25], "has gripper = -0.25, outside [0, 1]; return it in range, or allow clipping"),
    ],
)
def test_a_bad_action_is_refused_with_the_component_and_the_range(action, sentence):
    with pytest.raises(ActionError) as caught:
        SPEC.validate(action)
    assert sentence in str(caught.value)


def test_clipping_is_explicit():
    assert SPEC.validate([3.0, -3.0, 0.5], clip=True).tolist() == [1.0, -1.0, 0.5]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_clipping_does_not_hide_what_is_not_finite(bad):
    with pytest.raises(ActionError, match="every component must be finite"):
        SPEC.validate([bad, 0, 0], clip=True)


def test_a_torch_tensor_that_requires_gradients_is_refused_in_words():
    torch = pytest.importorskip("torch")
    with pytest.raises(ActionError, match="is not numeric"):
        SPEC.validate(torch.zeros(3, requires_grad=True))
