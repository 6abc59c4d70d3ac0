import torch

from reglab.measures import table, to_floats


def test_values_keep_their_names_order_and_precision_whatever_their_types():
    metrics = {"b": torch.tensor(1 / 3, dtype=torch.float64), "a": torch.tensor(0.5), "c": torch.tensor(7)}
    actual = to_floats(metrics)
    assert list(actual.items()) == [("b", 1 / 3), ("a", 0.5), ("c", 7.0)]
    assert all(isinstance(value, float) for value in actual.values())


def test_a_table_has_a_row_of_values_for_each_member():
    metrics = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([1 / 3, 0.5], dtype=torch.float64)}
    assert table(metrics) == (["b", "a"], [[1.0, 1 / 3], [2.0, 0.5]])
    assert table({}) == ([], [])
