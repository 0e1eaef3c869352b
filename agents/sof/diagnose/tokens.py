"""Which tokens are used, when, and whether the same motion in another task is the same token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from flowbench.agents.sof.diagnose.opened import Block, Skills
from flowbench.data.colours import object_colour
from flowbench.sheet import NOTHING, Group, Line, Sheet, SheetCell, Span

#: Shares of a demonstration that count as reaching (nothing has been touched yet) and as acting.
REACHING, ACTING = (0.0, 0.3), (0.5, 1.0)


@dataclass
class TokenUse:
    """Tokens of blocks.

    Attributes:
        size: Of the codebook.
        counts: int64 (size,) how often each was used, at any place of a block.
        phases: By phase and task, int64 (size,) counts of the tokens of blocks that begin in it.
        timelines: By demonstration, the first token of successive blocks.
    """

    size: int
    counts: np.ndarray = field(init=False)
    phases: dict[str, dict[str, np.ndarray]] = field(default_factory=lambda: {"reaching": {}, "acting": {}})
    timelines: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.counts = np.zeros(self.size, np.int64)

    @torch.no_grad()
    def add(self, skills: Skills, blocks: Iterable[Block]) -> None:
        """Encode and count blocks."""
        for block in blocks:
            tokens = skills.model.skills.tokens(block.content[None])[0].numpy()
            np.add.at(self.counts, tokens, 1)
            share = block.step / max(1, block.info.steps - 1)
            for phase, (first, last) in (("reaching", REACHING), ("acting", ACTING)):
                if first <= share < last or share == last == 1:
                    own = self.phases[phase].setdefault(block.task, np.zeros(self.size, np.int64))
                    np.add.at(own, tokens, 1)
            self.timelines.setdefault(f"{block.task} {block.camera} {block.info.name}", []).append(int(tokens[0]))

    @property
    def used(self) -> int:
        """Number of codes that were used at least once."""
        return int((self.counts > 0).sum())

    @property
    def perplexity(self) -> float:
        """Two to the entropy of the tokens: how many equally likely codes would be as surprising."""
        shares = self.counts[self.counts > 0] / self.counts.sum()
        return float(np.exp(-(shares * np.log(shares)).sum()))

    def shared(self, phase: str) -> float | None:
        """Return the mean overlap of two tasks' tokens in a phase, 0 to 1: the sum of the smaller shares of every code.

        None with fewer than two tasks.
        """
        shares = [counts / counts.sum() for counts in self.phases[phase].values() if counts.sum()]
        pairs = [np.minimum(a, b).sum() for i, a in enumerate(shares) for b in shares[i + 1 :]]
        return float(np.mean(pairs)) if pairs else None

    def sheet(self, title: str) -> Sheet:
        """Return the table."""
        numbers = {
            "codes used": f"{self.used} of {self.size} ({100 * self.used / self.size:.0f} %)",
            "perplexity": f"{self.perplexity:.0f}",
            "tokens counted": str(int(self.counts.sum())),
        }
        overlaps = {
            f"overlap of two tasks' tokens, {phase}": NOTHING
            if (value := self.shared(phase)) is None
            else f"{value:.3f}"
            for phase in self.phases
        }
        lines = tuple(Line((name,), (SheetCell((text,)),)) for name, text in {**numbers, **overlaps}.items())
        return Sheet(
            caption=title,
            labels=("number",),
            spans=(Span("", 1),),
            headings=("value",),
            groups=(Group("", lines),),
            notes=(
                f"Reaching is the first {100 * REACHING[1]:.0f} % of a demonstration, acting its second half.",
                "Overlap is the sum over codes of the smaller of two tasks' shares: 1 if they use the same tokens equally often.",
            ),
            records=(
                {
                    "used": self.used,
                    "size": self.size,
                    "perplexity": self.perplexity,
                    **{f"shared_{phase}": self.shared(phase) for phase in self.phases},
                },
            ),
        )

    def rows(self) -> list[tuple[str, list[tuple[int, int, int]]]]:
        """Return a row of coloured cells per demonstration; a code has the same colour everywhere."""
        return [(name, [object_colour(token + 1) for token in tokens]) for name, tokens in self.timelines.items()]
