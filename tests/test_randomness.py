"""Streams depend on seed, purpose and keys, and on nothing else."""

import itertools
import subprocess
import sys

import numpy as np

from swath.randomness import stream


def test_the_same_arguments_give_the_same_numbers():
    assert np.array_equal(stream(3, "order", 5).random(10), stream(3, "order", 5).random(10))


def test_any_other_argument_gives_other_numbers():
    # A purpose has one number of keys: NumPy reads a seed as if zeros followed it.
    arguments = list(
        itertools.product((0, 1, 2**31, 2**63), ("order", "augmentation", ""), (0, 1, 7), (0, 1, 7, 2**40))
    )
    assert len({float(stream(*each).random()) for each in arguments}) == len(arguments)


def test_streams_of_neighbouring_steps_are_not_alike():
    numbers = np.array([stream(0, "augmentation", step).random(200) for step in range(50)])
    correlation = np.corrcoef(numbers)[np.triu_indices(50, 1)]
    assert np.abs(correlation).max() < 0.35  # 1,225 pairs, standard deviation 0.07


def test_numbers_are_those_of_any_other_process():
    code = "from swath.randomness import stream; print(*stream(7, 'split', 2).integers(0, 1000, 5))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert [int(word) for word in other.split()] == stream(7, "split", 2).integers(0, 1000, 5).tolist()


def test_the_global_generator_is_left_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    stream(0, "order").random(100)
    assert np.array_equal(before, np.random.get_state()[1])
