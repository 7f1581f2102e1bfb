"""Which images a process of several takes."""

import pytest
import torch

from vitforge_sw.shards import Shard, merged


@pytest.mark.parametrize("images,batch,count", [(1, 8, 1), (17, 8, 2), (24, 8, 3), (100, 7, 4)])
def test_rows_are_whole_batches_and_come_back_in_order(images, batch, count):
    parts = [Shard(rank, count).rows(images, batch) for rank in range(count)]
    assert sorted(sum(parts, [])) == list(range(images))
    for rows in parts:
        assert all(rows[i] // batch == rows[i - i % batch] // batch for i in range(len(rows)))
    logits = torch.arange(3 * images).view(images, 3)
    found = merged([{"x": logits[rows]} for rows in parts], "x", images, batch)
    assert torch.equal(found, logits)


def test_rank_must_be_below_count():
    with pytest.raises(ValueError, match=r"shard: rank must be in 0..1, not 2"):
        Shard(2, 2)
