import math

import pytest
import torch
from scipy import stats

from reglab.rng import counter_rng

MASK = 2**64 - 1
GOLDEN, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# The first outputs of the reference implementation (S. Vigna, splitmix64.c) from the state 1234567.
PUBLISHED = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
SPECIAL = [0, 1, 2, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, MASK, GOLDEN, 1 << 40]


def signed(number):
    number &= MASK
    return number - 2**64 if number >= 2**63 else number


def splitmix(state):
    """SplitMix64's output function in Python's integers."""
    state = ((state ^ (state >> 30)) * MIX1) & MASK
    state = ((state ^ (state >> 27)) * MIX2) & MASK
    return state ^ (state >> 31)


def unshift(number, by):
    """Solve ``x ^ (x >> by) = number``."""
    solved = number
    for _ in range(64 // by):
        solved = number ^ (solved >> by)
    return solved


def unmixed(output):
    """The state that SplitMix64's output function maps to ``output``."""
    state = unshift(output, 31) * pow(MIX2, -1, 2**64) & MASK
    state = unshift(state, 27) * pow(MIX1, -1, 2**64) & MASK
    return unshift(state, 30)


def stream_whose_first_bits_are(output):
    return torch.tensor(signed(unmixed(output) - GOLDEN))


def uniforms(*parts, count=50_000):
    return counter_rng.uniform(counter_rng.key(*parts), torch.arange(count)).double().numpy()


def test_bits_are_the_published_sequence():
    actual = counter_rng.bits(torch.tensor(1234567), torch.arange(5))
    assert [number & MASK for number in actual.tolist()] == PUBLISHED


def test_hash_equals_python_integers_with_and_without_the_sign_bit():
    states = SPECIAL + [splitmix(number) for number in range(200)]
    actual = counter_rng.hash64(torch.tensor([signed(state) for state in states]))
    assert [number & MASK for number in actual.tolist()] == [splitmix(state) for state in states]


@pytest.mark.parametrize("parts", [(0,), (5, 3), (7, 2, 2**32 - 1, 12345)])
def test_key_equals_python_integers(parts):
    expected = 0
    for part in parts:
        expected = splitmix((expected * MIX2 + part + GOLDEN) & MASK)
    assert int(counter_rng.key(*parts)) & MASK == expected
    assert int(counter_rng.key(*[torch.tensor(part) for part in parts])) & MASK == expected


def test_keys_differ_wherever_a_part_or_the_order_differs():
    keys = [int(counter_rng.key(*parts)) for parts in ((1, 2), (2, 1), (1, 3), (1,), (1, 2, 0), (0, 1, 2), (-1, 2))]
    assert len(set(keys)) == len(keys)


def test_name_number_is_the_published_check_value_of_crc32():
    assert counter_rng.name_number("123456789") == 0xCBF43926


def test_uniform_is_the_upper_24_bits():
    counter = torch.arange(1000)
    actual = counter_rng.uniform(torch.tensor(1234567), counter)
    expected = [(splitmix((1234567 + (number + 1) * GOLDEN) & MASK) >> 40) / 2**24 for number in counter.tolist()]
    assert actual.dtype == torch.float32
    assert actual.double().tolist() == expected


def test_uniform_reaches_zero_but_never_one():
    for output, expected in ((MASK, 1 - 2.0**-24), (0, 0.0), (1 << 63, 0.5)):
        assert float(counter_rng.uniform(stream_whose_first_bits_are(output), torch.tensor(0))) == expected


def test_normal_is_finite_where_uniform_is_at_its_ends():
    for output in (0, MASK):
        assert math.isfinite(float(counter_rng.normal(stream_whose_first_bits_are(output), torch.tensor(0))))


@pytest.mark.parametrize("key", [(0,), (1,), (0, 1), (2**40, 17, 3)])
def test_uniform_passes_kolmogorov_smirnov_and_chi_square(key):
    sample = uniforms(*key)
    assert stats.kstest(sample, "uniform").pvalue > 1e-3
    cells = torch.histc(torch.from_numpy(sample), 256, 0, 1).numpy()
    assert stats.chisquare(cells).pvalue > 1e-3


def test_pairs_of_neighbouring_counters_fill_the_square_evenly():
    sample = torch.from_numpy(uniforms(3, count=100_000)).reshape(-1, 2)
    cells = torch.bincount((sample * 16).long() @ torch.tensor([16, 1]), minlength=256).numpy()
    assert stats.chisquare(cells).pvalue > 1e-3


def test_neighbouring_keys_and_counters_are_not_correlated():
    base = uniforms(5, 100)
    neighbours = {
        "seed": uniforms(6, 100),
        "step": uniforms(5, 101),
        "counter": uniforms(5, 100, count=50_001)[1:],
        "site": uniforms(5, 100, 0),
    }
    for what, other in neighbours.items():
        assert abs(stats.pearsonr(base, other).statistic) < 4 / math.sqrt(len(base)), what


def test_first_draws_of_successive_steps_are_uniform_and_not_correlated():
    # One draw a step is what mixup takes: the sequence over keys has to be as good as the one over
    # counters.
    keys = torch.vmap(lambda step: counter_rng.key(3, step))(torch.arange(20_000))
    sample = counter_rng.uniform(keys, torch.zeros(20_000, dtype=torch.int64)).double().numpy()
    assert stats.kstest(sample, "uniform").pvalue > 1e-3
    assert abs(stats.pearsonr(sample[1:], sample[:-1]).statistic) < 4 / math.sqrt(len(sample))


def test_one_flipped_bit_of_a_key_flips_half_of_the_bits():
    base = counter_rng.bits(torch.tensor(99), torch.arange(500))
    for index in range(64):
        other = counter_rng.bits(torch.tensor(signed(99 ^ (1 << index))), torch.arange(500))
        flipped = [(number & MASK).bit_count() for number in (base ^ other).tolist()]
        assert abs(sum(flipped) / len(flipped) - 32) < 1  # the standard error is 4 / sqrt(500) = 0.18


def test_normal_passes_kolmogorov_smirnov_and_is_not_serially_correlated():
    sample = counter_rng.normal(counter_rng.key(11), torch.arange(50_000)).double().numpy()
    assert stats.kstest(sample, "norm").pvalue > 1e-3
    assert abs(stats.pearsonr(sample[1:], sample[:-1]).statistic) < 4 / math.sqrt(len(sample))


@pytest.mark.parametrize("draw", [counter_rng.bits, counter_rng.uniform, counter_rng.normal])
def test_under_vmap_each_member_draws_its_solo_bits(draw):
    seeds, counter = torch.tensor([0, 1, 12345]), torch.arange(12).reshape(3, 4)

    def member(seed):
        return draw(counter_rng.key(seed, 7, counter_rng.name_number("dropout")), counter)

    together = torch.vmap(member)(seeds)
    for index, seed in enumerate(seeds):
        assert torch.equal(together[index], member(seed))


@pytest.mark.filterwarnings("ignore")  # what torch's compiler says of itself
def test_compiled_over_positions_as_counters():
    def draw(stream):
        return counter_rng.normal(stream, torch.arange(8, device=stream.device))

    stream = counter_rng.key(3, 4)
    torch.testing.assert_close(torch.compile(draw, fullgraph=True)(stream), draw(stream), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows", [0, 1, 2, 1000])
def test_permutation_holds_every_row_once(rows):
    order = counter_rng.permutation(counter_rng.key(4), rows)
    assert order.sort().values.tolist() == list(range(rows))
    assert torch.equal(order, counter_rng.permutation(counter_rng.key(4), rows))


def test_every_permutation_is_as_likely_as_another():
    keys = torch.vmap(lambda epoch: counter_rng.key(0, epoch))(torch.arange(12_000))
    orders = torch.vmap(lambda key: counter_rng.permutation(key, 4))(keys)
    _, counts = orders.unique(dim=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(0)
    state, first = torch.get_rng_state(), counter_rng.uniform(counter_rng.key(1), torch.arange(3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(counter_rng.uniform(counter_rng.key(1), torch.arange(3)), first)
