"""Flow in, flow out: what of a motion survives its eight tokens, by the size of what moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from flowbench.agents.sof.diagnose.opened import Block, Skills
from flowbench.agents.sof.diagnose.pictures import colour_content, to_picture
from flowbench.data.picture_rows import PictureRow
from flowbench.errors import missing_extra
from flowbench.sheet import NOTHING, Group, Line, Sheet, SheetCell, Span

#: A pixel moves where its content is longer than this share of the content's usual size.
MOVES = 0.25
#: Upper bounds of the area of what moves together, as shares of the image in thousandths, and their names.
SIZES = ((2.5, "tiny, below 0.25 %"), (10.0, "small, below 1 %"), (40.0, "medium, below 4 %"), (1000.0, "large"))
#: Frames of a block that the picture shows, as shares of it.
SHOWN = (0.0, 0.25, 0.5, 0.75, 0.97)


@dataclass
class Errors:
    """Sums over pixels: lengths of errors, and of the truth (the error of saying that nothing moves)."""

    pixels: int = 0
    error: float = 0.0
    still: float = 0.0

    def add(self, error: np.ndarray, still: np.ndarray) -> None:
        """Count the pixels of two maps."""
        self.pixels += error.size
        self.error += float(error.sum())
        self.still += float(still.sum())

    @property
    def ratio(self) -> float | None:
        """The error over that of saying that nothing moves; None where nothing does."""
        return self.error / self.still if self.still else None


class Reconstruction:
    """Errors of blocks, by task, camera, size of what moves and moment; a table of them, and rows of pictures."""

    def __init__(self, skills: Skills) -> None:
        """Begin with nothing."""
        try:
            import cv2
        except ImportError as error:
            raise missing_extra("flowbench diagnose sof-reconstruction", "agents", error) from error
        self._cv2 = cv2
        self._skills = skills
        side_px = float(skills.config.image_size[0])
        #: What the content is measured in, and how many of that are one of its own units.
        self._unit, self._factor = {
            "flow": ("end-point error, px", side_px),
            "pixels": ("error of pixels, of 255", 255.0),
            "scene-flow": ("end-point error, mm", 1000.0),
        }[skills.config.content]
        self.groups: dict[str, dict[str, Errors]] = {"": {}, "size of what moves": {}, "camera": {}, "task": {}}
        self.used: set[int] = set()
        self.pictures: list[PictureRow] = []
        self.blocks = 0

    def add(self, blocks: Iterable[Block], pictures_per_task: int = 1) -> None:
        """Encode, decode and compare blocks."""
        drawn: dict[str, int] = {}
        scale = float(self._skills.model.skills.scale)
        for block in blocks:
            made, tokens = reconstruct(self._skills, block)
            wanted = block.content.numpy()
            error, still = (np.sqrt(np.square(part).sum(1)) for part in (made - wanted, wanted))
            self.blocks += 1
            self.used |= set(tokens.tolist())
            moving = still > MOVES * scale
            self._count("", "all pixels", error, still)
            self._count("", "where something moves", error[moving], still[moving])
            self._count("camera", block.camera, error, still)
            self._count("task", block.task, error, still)
            self._count_sizes(moving, error, still)
            # The first blocks often show nothing but the beginning of a motion.
            if drawn.get(block.task, 0) < pictures_per_task and block.step >= len(wanted) // 4:
                drawn[block.task] = drawn.get(block.task, 0) + 1
                self._draw(block, made, wanted)

    @property
    def overall(self) -> Errors:
        """Errors of all pixels."""
        return self.groups[""]["all pixels"]

    def sheet(self, title: str) -> Sheet:
        """Return the table."""
        groups, records = [], []
        order = [name for _, name in SIZES]
        for heading, rows in self.groups.items():
            names = sorted(rows, key=order.index) if heading == "size of what moves" else list(rows)
            lines = []
            for name in names:
                own = rows[name]
                values = [own.error, own.still]
                means = [self._factor * value / own.pixels if own.pixels else None for value in values]
                cells = [NOTHING if value is None else f"{value:.3f}" for value in (*means, own.ratio)]
                lines.append(Line((name,), tuple(SheetCell((cell,)) for cell in cells)))
                keys = ("error", "still", "ratio")
                records.append({"group": heading, "name": name, **dict(zip(keys, (*means, own.ratio), strict=True))})
            groups.append(Group(heading, tuple(lines)))
        size = self._skills.model.skills.codebook_size
        return Sheet(
            caption=title,
            labels=("over",),
            spans=(Span(self._unit, 2), Span("", 1)),
            headings=("decoded", "nothing moves", "ratio"),
            groups=tuple(groups),
            notes=(
                f"{self.blocks} blocks; {len(self.used)} of {size} codes were used ({100 * len(self.used) / size:.0f} %).",
                "Pixels are those of the image that the network sees. The truth is the flow of the training.",
                f"What moves together by more than {MOVES} of the usual size of flow is one thing; its size is its area.",
            ),
            records=tuple(records),
        )

    def _count(self, group: str, name: str, error: np.ndarray, still: np.ndarray) -> None:
        self.groups[group].setdefault(name, Errors()).add(error, still)

    def _count_sizes(self, moving: np.ndarray, error: np.ndarray, still: np.ndarray) -> None:
        for mask, own, truth in zip(moving, error, still, strict=True):
            count, labels, statistics, _ = self._cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
            for label in range(1, count):
                share = 1000 * statistics[label, self._cv2.CC_STAT_AREA] / mask.size
                name = next(name for bound, name in SIZES if share <= bound)
                inside = labels == label
                self._count("size of what moves", name, own[inside], truth[inside])

    def _draw(self, block: Block, made: np.ndarray, wanted: np.ndarray) -> None:
        full = max(1e-6, float(np.percentile(np.sqrt(np.square(wanted).sum(1)), 99.7)))
        chosen = [int(share * len(wanted)) for share in SHOWN]
        first = to_picture(block.frame.numpy())
        told, true = ([first, *(colour_content(part[step], full) for step in chosen)] for part in (made, wanted))
        title = f"{block.task}, {block.camera}, from step {block.step}, after {', '.join(map(str, chosen))} steps"
        self.pictures += [(f"{title}: decoded", told), ("what happened", true)]


@torch.no_grad()
def reconstruct(skills: Skills, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Return the float32 (H, C, h, w) content that a block's tokens decode to, and the tokens (n,)."""
    network = skills.model.skills
    tokens = network.tokens(block.content[None])
    made = network.decode(tokens, block.frame[None], range(len(block.content)))
    return made[0].numpy(), tokens[0].numpy()
