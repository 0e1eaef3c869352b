"""Runs whose episodes are chains of instructions, reduced to what tables and comparisons count: how far each chain went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flowbench.errors import FlowBenchError
from flowbench.result import ChainLink
from flowbench.stats import ChainScores, chain_scores

if TYPE_CHECKING:
    from flowbench.comparability import ErrorAccounting
    from flowbench.spec import EvalSpec

#: What a reader of a comparison of chains has to know.
RUNG_NOTE = (
    "An episode is a chain of instructions and has a row for each number in a row; the rate is their mean, which is the average "
    "length as a share of the whole chain, and tests count chains."
)
#: Seed of the bootstrap, so that a table is a pure function of results.
_SEED = 0


class Chain(NamedTuple):
    """One finished chain.

    Attributes:
        camera: Text of the camera pose.
        status: How the episode ended; `success` if every instruction was carried out.
        links: The instructions that were given.
    """

    camera: str
    status: str
    links: tuple[ChainLink, ...]

    @property
    def completed(self) -> int:
        """Number of instructions in a row that were carried out."""
        return sum(link.success for link in self.links)


@dataclass(frozen=True)
class ChainOutcomes:
    """The chains of a run.

    Attributes:
        longest: Number of instructions of a whole chain.
        chains: One per finished episode.
        missing: Episodes of the spec without a result.
    """

    longest: int
    chains: tuple[Chain, ...]
    missing: int

    @classmethod
    def of(cls, spec: EvalSpec, rows: Iterable[Mapping[str, Any]]) -> ChainOutcomes | None:
        """Take the chains from the fields of results; None if the run's protocol has no chains."""
        longest = chain_length(spec)
        if longest == 1:
            return None
        chains = tuple(
            Chain(row["camera"], row["status"], tuple(ChainLink(*link) for link in row.get("chain") or ()))
            for row in rows
        )
        return cls(longest, chains, max(planned_episodes(spec) - len(chains), 0))

    @property
    def cameras(self) -> tuple[str, ...]:
        """The camera poses, in the order in which they finished."""
        return tuple(dict.fromkeys(chain.camera for chain in self.chains))

    def counted(self, errors: ErrorAccounting, camera: str | None = None) -> tuple[Chain, ...]:
        """Return the chains that count; one that broke off counts as far as it went, where errors count as failures."""
        return tuple(
            chain
            for chain in self.chains
            if (errors == "failure" or chain.status != "error") and camera in (None, chain.camera)
        )

    def scores(self, errors: ErrorAccounting, camera: str | None = None) -> ChainScores | None:
        """Return rates and average length with their intervals; None without a chain that counts."""
        lengths = [chain.completed for chain in self.counted(errors, camera)]
        if not lengths:
            return None
        return chain_scores(np.array(lengths), np.random.default_rng(_SEED), longest=self.longest)

    def errors(self, camera: str | None = None) -> int:
        """Return how many chains could not be carried out."""
        return sum(chain.status == "error" and camera in (None, chain.camera) for chain in self.chains)

    def instructions(self, errors: ErrorAccounting) -> dict[str, tuple[int, int]]:
        """Return (carried out, given) of each instruction by name, most often given first."""
        found: dict[str, list[int]] = {}
        for chain in self.counted(errors):
            for link in chain.links:
                counts = found.setdefault(link.task, [0, 0])
                counts[0] += link.success
                counts[1] += 1
        return {name: (counts[0], counts[1]) for name, counts in sorted(found.items(), key=lambda item: -item[1][1])}


def chain_length(spec: EvalSpec) -> int:
    """Return the number of instructions per episode; 1 for a suite that is not installed here."""
    try:
        return spec.rules.chain
    except (FlowBenchError, ImportError):
        return 1


def planned_episodes(spec: EvalSpec) -> int:
    """Return the number of episodes that a spec asks for."""
    full = len(spec.tasks) * len(spec.cameras) * len(spec.seeds) * len(spec.init_states or (None,))
    return full if spec.limit is None else min(spec.limit, full)


def rung(camera: str, count: int) -> str:
    """Return the name under which "at least `count` in a row" stands where other runs have a camera.

    Comparisons lay runs side by side cell by cell and know that the cells of one scenario go together; the rungs of a chain
    do so like the cameras that saw one episode.
    """
    return f"{camera}, {count} in a row"


def episode_of(identifier: str) -> str:
    """Return the id of the episode that a row of `rungs_of` came from; other ids are returned as they are."""
    return identifier.partition("#")[0]


def rungs_of(row: Mapping[str, Any], longest: int) -> Sequence[dict[str, Any]]:
    """Return one row per rung of a chain's result: a success where at least so many instructions were carried out."""
    completed = sum(bool(link[1]) for link in row.get("chain") or ())
    statuses = [
        "error" if row["status"] == "error" else "success" if completed >= k else "failure" for k in _to(longest)
    ]
    return [
        {**row, "id": f"{row['id']}#{k}", "camera": rung(row["camera"], k), "status": status}
        for k, status in zip(_to(longest), statuses, strict=True)
    ]


def _to(longest: int) -> range:
    return range(1, longest + 1)
