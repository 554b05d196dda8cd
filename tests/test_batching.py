"""Batches hold every row once, and are split where they do not fit into memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from sae_utils.engine.lms import batching


@pytest.mark.parametrize(("rows", "batch"), [(1, 4), (7, 7), (100, 8), (1000, 3), (333, 1)])
def test_every_row_is_seen_once_an_epoch(rows, batch):
    lengths = np.random.default_rng(0).integers(2, 50, rows)
    found = list(batching.shuffled(lengths, batch, seed=(0, 0)))
    assert sorted(np.concatenate(found)) == list(range(rows))
    assert max(map(len, found)) <= batch and len(found) == -(-rows // batch)
    again, other = (list(batching.shuffled(lengths, batch, seed=(0, epoch))) for epoch in (0, 1))
    assert all(map(np.array_equal, found, again))
    assert rows < 8 or not all(map(np.array_equal, found, other))


def test_rows_of_similar_length_are_in_one_batch():
    lengths = np.random.default_rng(0).integers(2, 100, 640)
    spread = np.mean([np.ptp(lengths[batch]) for batch in batching.shuffled(lengths, 8, seed=0)])
    assert spread < 10 < np.mean([np.ptp(lengths[i : i + 8]) for i in range(0, 640, 8)])


def test_batches_in_order_hold_every_row():
    chosen = np.arange(5, 138)
    found = list(batching.in_order(chosen, 64))
    assert [len(batch) for batch in found] == [64, 64, 5]
    np.testing.assert_array_equal(np.concatenate(found), chosen)


@pytest.mark.parametrize("fits", [1, 3, 5, 64])
def test_a_batch_that_does_not_fit_is_split(fits):
    tried = []

    def run(part):
        tried.append(len(part))
        if len(part) > fits:
            raise torch.OutOfMemoryError
        return part

    batches = [np.arange(0, 16), np.arange(16, 23), np.arange(23, 39)]
    found = list(batching.in_parts(iter(batches), run))
    np.testing.assert_array_equal(np.concatenate(found), np.arange(39))
    assert max(map(len, found)) <= fits
    assert sum(size > fits for size in tried) <= 5  # the size that fits is remembered


def test_a_row_that_does_not_fit_is_an_error():
    def run(part):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        list(batching.in_parts(iter([np.arange(4)]), run))


FAILS = """
import resource
import numpy as np, torch
from sae_utils.engine.lms import batching

resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, 3 * 2**30))
one = torch.ones(2**17, 1)
for run in (lambda: torch.empty(2**32), lambda: np.ones(2**32), lambda: one @ one.T, lambda: b"." * 2**32):
    try:
        run()
    except (RuntimeError, MemoryError) as error:
        print(batching.is_out_of_memory(error), error)
"""


def test_a_failed_allocation_is_recognised():
    done = subprocess.run([sys.executable, "-c", FAILS], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and all(line.startswith("True") for line in lines), lines
    assert not any(map(batching.is_out_of_memory, [RuntimeError("shapes (3, 4) and (5, 6)"), RuntimeError()]))
