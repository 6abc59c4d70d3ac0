"""New rows of these data cannot be prepared yet: nothing says that they could."""

import torch

import reglab


def test_queries_times_several_targets_and_padding_keep_no_preprocessing() -> None:
    inputs = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    grades, queries = torch.arange(60) % 3, torch.arange(60) // 6
    times = torch.stack([torch.rand(60) + 0.1, torch.ones(60)], 1)
    assert reglab.dataset(inputs, grades, query=queries, task="ranking").preprocessing is None
    assert reglab.dataset(inputs, times, task="survival(4)").preprocessing is None
    assert reglab.dataset(inputs, grades, pad=-1.0).preprocessing is None
    assert reglab.dataset(inputs, grades).preprocessing is not None
