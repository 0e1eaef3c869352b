"""The statistics of tables, comparisons and gates: SciPy and statsmodels, and a thin layer where they have nothing.

| module | what it answers |
|---|---|
| `intervals` | between which bounds a success rate lies |
| `sample` | which episodes depend on each other, and how many independent ones they are worth |
| `rates` | the rate over several tasks and cameras |
| `chains` | CALVIN's instructions in a row |
| `paired`, `unpaired` | whether two agents differ, on the same scenarios or on others |
| `multiple` | the same over many tasks, or many agents |
| `power` | how many episodes decide it |
| `sequential` | the same while episodes are still coming in |

How often each is right is shown in docs/statistics.md. Nothing here reads a result folder.
"""

from flowbench.stats.chains import ChainScores, chain_lengths, chain_scores
from flowbench.stats.intervals import Interval, clopper_pearson_interval, wilson_interval
from flowbench.stats.multiple import candidates_for_best, holm
from flowbench.stats.paired import (
    Difference,
    PairedCounts,
    mcnemar_exact,
    paired_difference,
    sign_flip_test,
    tango_interval,
)
from flowbench.stats.power import episodes_needed, mcnemar_power, pairs_needed, pairs_to_hold
from flowbench.stats.rates import Rate, bootstrap_interval, bootstrap_means, clustered_rate, mean_of_cells
from flowbench.stats.sample import ClusteredSample
from flowbench.stats.sequential import betting_p_value, betting_wealth
from flowbench.stats.unpaired import boschloo, independent_difference

__all__ = [
    "ChainScores",
    "ClusteredSample",
    "Difference",
    "Interval",
    "PairedCounts",
    "Rate",
    "betting_p_value",
    "betting_wealth",
    "bootstrap_interval",
    "bootstrap_means",
    "boschloo",
    "candidates_for_best",
    "chain_lengths",
    "chain_scores",
    "clopper_pearson_interval",
    "clustered_rate",
    "episodes_needed",
    "holm",
    "independent_difference",
    "mcnemar_exact",
    "mcnemar_power",
    "mean_of_cells",
    "paired_difference",
    "pairs_needed",
    "pairs_to_hold",
    "sign_flip_test",
    "tango_interval",
    "wilson_interval",
]
