"""Skills of one arm, shown another: does its flow survive them, and do both use the same tokens?

The paper learns skills from a Sawyer and acts with a Panda, and back; numbers are not published. Here the Sawyer is Meta-World's
and the Panda LIBERO's, so scene and camera change with the arm. A Panda in Meta-World's scenes is not built: their models, their
controller (a mocap body welded to the Sawyer's hand) and the experts' constants are the Sawyer's, and a picture of another arm on
top of it would be another thing than a Panda that acts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from flowbench.agents.sof.diagnose.opened import Block, Skills
from flowbench.agents.sof.diagnose.pictures import colour_content, to_picture
from flowbench.agents.sof.diagnose.reconstruction import SHOWN, Errors, reconstruct
from flowbench.data.picture_rows import PictureRow
from flowbench.sheet import NOTHING, Group, Line, Sheet, SheetCell, Span


@dataclass
class Embodiment:
    """How an arm's videos fare in given skills.

    Attributes:
        name: What the table calls them.
        errors: Of all pixels.
        counts: int64 (codes,) how often each token was used.
        blocks: Number of blocks.
    """

    name: str
    errors: Errors
    counts: np.ndarray
    blocks: int = 0

    @property
    def shares(self) -> np.ndarray:
        """Shares of the tokens."""
        return self.counts / max(1, self.counts.sum())


def look_at(skills: Skills, name: str, blocks: Iterable[Block]) -> tuple[Embodiment, list[PictureRow]]:
    """Encode and decode blocks of one arm; also return rows of pictures of the first of each task."""
    found = Embodiment(name, Errors(), np.zeros(skills.model.skills.codebook_size, np.int64))
    rows: list[PictureRow] = []
    drawn: set[str] = set()
    for block in blocks:
        made, tokens = reconstruct(skills, block)
        wanted = block.content.numpy()
        found.errors.add(*(np.sqrt(np.square(part).sum(1)) for part in (made - wanted, wanted)))
        np.add.at(found.counts, tokens, 1)
        found.blocks += 1
        if block.task not in drawn and block.step and len(drawn) < 4:
            drawn.add(block.task)
            full = max(1e-6, float(np.percentile(np.sqrt(np.square(wanted).sum(1)), 99.7)))
            chosen = [int(share * len(wanted)) for share in SHOWN]
            first = to_picture(block.frame.numpy())
            told, true = ([first, *(colour_content(part[step], full) for step in chosen)] for part in (made, wanted))
            rows += [(f"{name}: {block.task}, from step {block.step}: decoded", told), ("what happened", true)]
    return found, rows


def embodiment_sheet(title: str, own: Embodiment, other: Embodiment) -> Sheet:
    """Return the table of an arm that skills were learned from, and of another."""
    overlap = float(np.minimum(own.shares, other.shares).sum())
    lines, records = [], []
    for arm in (own, other):
        ratio, used = arm.errors.ratio, int((arm.counts > 0).sum())
        texts = (str(arm.blocks), NOTHING if ratio is None else f"{ratio:.3f}", str(used))
        lines.append(Line((arm.name,), tuple(SheetCell((text,)) for text in texts)))
        records.append({"arm": arm.name, "blocks": arm.blocks, "ratio": ratio, "codes": used, "overlap": overlap})
    return Sheet(
        caption=title,
        labels=("videos of",),
        spans=(Span("", 3),),
        headings=("blocks", "error over that of no motion", "codes used"),
        groups=(Group("", tuple(lines)),),
        notes=(f"Overlap of the two arms' tokens: {overlap:.3f} (1: the same codes, equally often).",),
        records=tuple(records),
    )
