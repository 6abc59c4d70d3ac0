"""Which jobs may train together, and how packs are cut."""

import copy

import pytest

from reglab.launchers.packing import Plan, differing, plan, regroup, separation_line, split, split_evenly, structure

JOB = {
    "name": None,
    "seed": 0,
    "act": "finish",
    "data": {"name": "digits", "batch_size": 32, "label_noise": 0.0, "split_seed": 0, "fold": 0},
    "model": {"width": 64},
    "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1, "betas": [0.9, 0.99], "amsgrad": False},
    "scheduler": {"gamma": 0.1},
    "regularizer": {
        "l1": {"_target_": "reglab.regularizers.L1", "strength": 0.1, "where": "weights"},
        "l2": {"_target_": "reglab.regularizers.L2", "strength": 0.1},
    },
    "trainer": {"max_epochs": 50, "gradient_clip_norm": 1.0, "devices": 1, "precision": "32-true"},
    "sweep": {"job": 0},
}


def job(path="seed", value=0):
    config = copy.deepcopy(JOB)
    *parents, last = path.split(".")
    node = config
    for key in parents:
        node = node.setdefault(key, {})
    if isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value
    return config


@pytest.mark.parametrize(
    "path, value",
    [
        ("seed", 7),
        ("name", "mine"),
        ("sweep.job", 3),
        ("hydra.job.num", 3),
        ("regularizer.l1.strength", 0),
        ("regularizer.l1.strength", 1e-5),
        ("optimizer.lr", 1),
        ("optimizer.betas.1", 0.5),
        ("scheduler.gamma", 0.5),
        ("trainer.gradient_clip_norm", 2),
        ("data.label_noise", 0.1),
        ("data.split_seed", 1),
        ("data.fold", 1),
    ],
)
def test_jobs_that_differ_so_train_together(path, value):
    assert plan({4: JOB, 7: job(path, value)}) == Plan(((4, 7),), (), {})


@pytest.mark.parametrize(
    "path, value",
    [
        ("act", "other"),
        ("model.width", 65),
        ("trainer.max_epochs", 51),
        ("data.batch_size", 16),
        ("data.name", "wine"),
        ("trainer.gradient_clip_norm", None),
        ("scheduler.gamma", None),
        ("regularizer.l1.where", "all"),
        ("regularizer.l1.strength", True),
        ("optimizer.amsgrad", True),
        ("optimizer.amsgrad", 0),
        ("optimizer.betas", [0.9]),
        ("optimizer.eps", 1e-8),
        ("model.extra", {}),
        ("seed", "0"),
    ],
)
def test_jobs_that_differ_so_do_not(path, value):
    assert plan({4: JOB, 7: job(path, value)}) == Plan((), (4, 7), {})


def test_the_order_of_regularizers_is_their_nesting_that_of_other_keys_is_nothing():
    turned = job()
    turned["regularizer"] = dict(reversed(JOB["regularizer"].items()))
    assert structure(turned) != structure(JOB)
    turned["regularizer"] = JOB["regularizer"]
    turned["data"] = dict(reversed(JOB["data"].items()))
    assert structure(turned) == structure(JOB)


@pytest.mark.parametrize(
    "key, value",
    [
        ("devices", 2),
        ("devices", [1]),
        ("num_nodes", 2),
        ("strategy", "ddp"),
        ("precision", "bf16-mixed"),
        ("accumulate_grad_batches", 2),
    ],
)
def test_what_packs_cannot_do_trains_alone_and_says_so(key, value):
    odd = job(f"trainer.{key}", value)
    planned = plan({0: JOB, 1: odd, 2: odd, 3: JOB})
    assert (planned.packs, planned.solo) == (((0, 3),), (1, 2))
    (line,) = planned.lines()
    assert line.startswith(f"2 jobs train one by one: trainer.{key}={value}, but packs train with ")


@pytest.mark.parametrize("key, value", [("devices", "auto"), ("precision", "64-true"), ("strategy", "auto")])
def test_what_packs_can_do(key, value):
    assert plan({0: job(f"trainer.{key}", value), 1: job(f"trainer.{key}", value)}).packs == ((0, 1),)


def test_one_line_where_nothing_can_be_fused_and_none_for_a_job_without_a_partner():
    assert plan({0: JOB, 1: job("act", "other")}).lines() == ["nothing to fuse: no two jobs differ only in numbers"]
    assert plan({0: JOB}).lines() == []
    assert plan({0: JOB, 1: job("seed", 2), 2: job("act", "other")}).lines() == []
    assert plan({0: JOB, 1: JOB}, common_reason="so it is").lines() == ["2 jobs train one by one: so it is"]


@pytest.mark.parametrize(
    "sizes, solo, workers, cap, expected",
    [
        ((64,), 0, 1, None, [64]),
        ((64,), 0, 2, None, [32, 32]),
        ((15,), 0, 2, None, [15]),
        ((16,), 0, 3, None, [8, 8]),
        ((40, 20), 0, 4, None, [20, 10, 10, 20]),
        ((40, 20), 0, 3, None, [20, 20, 20]),
        ((64,), 1, 2, None, [64, 1]),
        ((10, 40), 2, 2, None, [40, 10, 1, 1]),
        ((2000,), 0, 1, None, [1000, 1000]),
        ((10,), 0, 1, 4, [4, 3, 3]),
        ((3,), 1, 1, 1, [1, 1, 1, 1]),
        ((), 3, 2, None, [1, 1, 1]),
    ],
)
def test_orders_are_cut_for_idle_workers_and_come_largest_first(sizes, solo, workers, cap, expected):
    numbers = iter(range(10_000))
    packs = tuple(tuple(next(numbers) for _ in range(size)) for size in sizes)
    planned = Plan(packs, tuple(next(numbers) for _ in range(solo)), {})
    orders = split(planned, workers, cap)
    assert sorted(map(len, orders), reverse=True) == sorted(expected, reverse=True) == [len(order) for order in orders]
    assert sorted(number for order in orders for number in order) == list(range(sum(sizes) + solo))


def test_parts_are_neighbours():
    assert split_evenly([3, 4, 5, 6, 9], 2) == [(3, 4), (5, 6, 9)]


def test_regrouping_names_every_job_once_and_never_the_same_pack_again():
    assert regroup((5, 6, 7, 8), [[0, 2], [1]]) == [(5, 7), (6,), (8,)]
    assert regroup((5, 6), []) == [(5,), (6,)]
    assert regroup((5, 6), [[0, 1]]) == [(5,), (6,)]
    assert regroup((5, 6, 7, 8), [[0, 1], [2]], done=[5, 8]) == [(6,), (7,)]


def test_what_differs_in_a_pack():
    second = job("optimizer.betas.1", 0.5)
    second["regularizer"]["l1"]["strength"] = 1
    assert differing([JOB, second]) == {"optimizer.betas.1": [0.99, 0.5], "regularizer.l1.strength": [0.1, 1]}


@pytest.mark.parametrize(
    "sizes, text",
    [
        ([1] * 12, "12 jobs train one by one: why"),
        ([1], "1 job trains alone: why"),
        ([8, 4], "12 jobs train in 2 packs: why"),
        ([8, 2, 1], "11 jobs train in 2 packs and 1 alone: why"),
    ],
)
def test_how_jobs_train_instead(sizes, text):
    assert separation_line("why", sizes) == text
