"""CALVIN's chains of five."""

import numpy as np
import pytest

from flowbench.errors import ShapeError
from flowbench.stats import chain_lengths, chain_scores, wilson_interval


def test_a_chain_ends_at_its_first_failure():
    outcomes = [[1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [0, 1, 1, 1, 1], [1, 0, 0, 0, 0]]
    assert chain_lengths(outcomes).tolist() == [5, 2, 0, 1]


def test_the_average_length_is_the_sum_of_the_five_rates():
    lengths = np.random.default_rng(0).integers(0, 6, 1000)
    scores = chain_scores(lengths, np.random.default_rng(1))
    assert scores.rates.shape == (5,)
    assert np.all(np.diff(scores.rates) <= 0)
    assert scores.average_length == pytest.approx(scores.rates.sum())
    assert scores.rates[2] == np.mean(lengths >= 3)
    low, high = scores.average_interval
    assert low < scores.average_length < high
    # The standard error of a mean of lengths.
    assert (high - low) / 2 / 1.96 == pytest.approx(np.std(lengths) / np.sqrt(1000), rel=0.05)
    np.testing.assert_allclose(scores.intervals.low, wilson_interval(scores.rates * 1000, 1000).low)


def test_what_cannot_be_a_length_is_refused():
    generator = np.random.default_rng(0)
    with pytest.raises(ShapeError, match="a chain of 6; the longest possible is 5"):
        chain_scores(np.array([1, 6]), generator)
    for wrong in (np.array([]), np.array([1.5]), np.array([-1]), np.ones((2, 5))):
        with pytest.raises(ShapeError, match="whole numbers from 0, one per chain"):
            chain_scores(wrong, generator)
    with pytest.raises(ShapeError, match=r"has shape \(3,\); expected \(chains"):
        chain_lengths([1, 0, 1])
