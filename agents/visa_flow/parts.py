"""Which pixels are the manipulator and the active object: from a simulator's ids, from motion, or from a segmenter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flowbench.agents.visa_flow.drawing import MANIPULATOR, OBJECT
from flowbench.agents.visa_flow.tracks import FlowTracker
from flowbench.errors import DataError, missing_extra
from flowbench.flow.exact import moved_bodies
from flowbench.flow.robots import is_robot
from flowbench.flow.snapshot import Snapshot

#: By simulator family: segmentation names of what manipulates. iTHOR's agent is the camera itself and never in the picture.
_MANIPULATORS = {
    "metaworld": r"hand|leftpad|rightpad|right_hand(/.*)?|right_l6(/.*)?",
    "libero": r"gripper",
    "calvin": r"gripper",
    "toy": r"gripper",
}
#: A pixel moves if the camera's typical motion leaves at least this much of its own, as a share of the image's side.
MOVING_SHARE = 0.012
#: Specks of fewer pixels than this share of the image are no part.
_SPECK_SHARE = 0.0008
SAM_MODEL = "facebook/sam-vit-base"


def named_masks(
    segmentation: np.ndarray, names: Mapping[int, str], family: str, targets: Iterable[str]
) -> dict[str, np.ndarray]:
    """Return bool (H, W) masks of manipulator and object from an image of ids.

    Args:
        segmentation: int (H, W).
        names: Name of every id.
        family: The simulator's, for the names of its robot.
        targets: Names of the active object.
    """
    manipulator = re.compile(_MANIPULATORS.get(family, r"(?!)"))
    wanted = set(targets)
    return {
        MANIPULATOR: np.isin(segmentation, [i for i, name in names.items() if manipulator.fullmatch(name)]),
        OBJECT: np.isin(segmentation, [i for i, name in names.items() if name in wanted]),
    }


def moved_names(first: Snapshot, last: Snapshot, family: str) -> set[str]:
    """Return the names of what moved between two snapshots besides the robot: the active object of a task that names none."""
    moved = moved_bodies(np.round(first.body_to_world, 3), np.round(last.body_to_world, 3))
    ids = {
        int(number) for snapshot in (first, last) for number in np.unique(snapshot.segmentation[moved[snapshot.bodies]])
    }
    found = {first.segmentation_names.get(number, "") for number in ids}
    return {name for name in found if name and not is_robot(name, family)}


def motion_masks(frames: Sequence[np.ndarray], tracker: FlowTracker) -> list[dict[str, np.ndarray]]:
    """Return what moves in a video, look by look; without a segmenter nobody can tell the hand from what it holds.

    The median flow of a look counts as the camera's.
    """
    import cv2

    masks = []
    for look in range(len(frames)):
        other = look - 1 if look else min(1, len(frames) - 1)
        flow_px = tracker.flow_px(look, other)
        own_px = np.linalg.norm(flow_px - np.median(flow_px, axis=(0, 1)), axis=-1)
        side = min(flow_px.shape[:2])
        moving = (own_px > max(0.5, MOVING_SHARE * side)).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(moving)
        least = max(4, _SPECK_SHARE * moving.size)
        keep = [number for number in range(1, count) if stats[number, cv2.CC_STAT_AREA] >= least]
        masks.append({MANIPULATOR: np.isin(labels, keep)})
    return masks


class SamSegmenter:
    """Segment Anything through transformers, asked for the things at points that move.

    Args:
        model: Folder, or name on the Hugging Face hub of a model that is in its cache.
        device: Where it runs.

    Raises:
        DataError: If the weights are not on this machine.
    """

    def __init__(self, model: str = SAM_MODEL, device: str = "cpu") -> None:
        try:
            import torch
            from transformers import SamModel, SamProcessor
        except ImportError as error:
            raise missing_extra("Masks by SAM", "agents", error) from error
        self._torch, self._device = torch, device
        try:
            self._processor = SamProcessor.from_pretrained(model, local_files_only=True)
            self._model = SamModel.from_pretrained(model, local_files_only=True).to(device).eval()
        except (OSError, ValueError) as error:
            raise DataError(
                f"Masks by SAM need the weights of {model}, which is neither a folder nor in the cache of the Hugging Face hub. "
                f"Download them once: hf download {model}; or use --masks motion, which needs none."
            ) from error

    def masks(self, frames: Sequence[np.ndarray], moving: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, Any]]:
        """Return the thing at the middle of what moves most, look by look; nothing where nothing moves."""
        found = []
        for frame, seen in zip(frames, moving, strict=True):
            mask = seen[MANIPULATOR]
            found.append({MANIPULATOR: self._ask(frame, _middle(mask)) if mask.any() else mask})
        return found

    def _ask(self, frame: np.ndarray, point: tuple[float, float]) -> np.ndarray:
        torch = self._torch
        inputs = self._processor(frame, input_points=[[list(point)]], return_tensors="pt").to(self._device)
        with torch.inference_mode():
            answer = self._model(**inputs)
        masks = self._processor.image_processor.post_process_masks(
            answer.pred_masks.cpu(), inputs["original_sizes"].cpu(), inputs["reshaped_input_sizes"].cpu()
        )[0][0]
        return masks[int(answer.iou_scores[0, 0].argmax())].numpy().astype(bool)


def _middle(mask: np.ndarray) -> tuple[float, float]:
    """Return column and row of the pixel deepest inside a mask."""
    import cv2

    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(column), float(row)
