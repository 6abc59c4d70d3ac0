"""What a sweep over learning rates says, on made-up runs with known truth."""

from dataclasses import replace

from analysis.test_evidence import Sweep
from reglab.analysis.learning_rate import learning_rates

FACTORS = {1e-3: 3.0, 1e-2: 1.0, 1e-1: 1.5, 1.0: 20.0}


def said(factors: dict[float, float], failed: float | None = None) -> str:
    sweep = Sweep()
    for rate, factor in factors.items():
        sweep.add("none", None, factor)
        for index in range(len(sweep.trials) - sweep.seeds, len(sweep.trials)):
            trial = sweep.trials[index]
            run = f"{rate} {trial.seed}"
            sweep.results[run] = sweep.results.pop(trial.run_id)
            params = {**trial.params, "optimizer.lr": f"{rate:g}"}
            status = "FAILED" if rate == failed else "FINISHED"
            sweep.trials[index] = replace(trial, run_id=run, params=params, status=status)
    return " ".join(learning_rates(sweep.choice()))


def test_a_clear_best_and_where_training_fails() -> None:
    assert said(FACTORS) == (
        "optimizer.lr=0.01 is clearly the best of 4 learning rates, by the paired differences over examples and seeds "
        "at level 0.05. From optimizer.lr=1 on, training fails: it diverges, or does no better than a constant."
    )


def test_rates_that_do_not_differ_clearly_are_named() -> None:
    text = said({**FACTORS, 1e-1: 1.0005})
    assert text.startswith("The best learning rate is not clear: 0.01 and 0.1 do not differ clearly")
    assert "has the best mean, and 0.1 is the largest of them" in text


def test_rates_that_diverged_count_as_failing() -> None:
    assert "From optimizer.lr=1 on, training fails" in said({**FACTORS, 1.0: 1.2}, failed=1.0)


def test_a_best_at_the_end_of_the_range_asks_for_more() -> None:
    assert said({1e-3: 3.0, 1e-2: 2.0, 1e-1: 1.0}).endswith(
        "The best rate is the largest of those tried: try larger ones too."
    )
    assert said({1e-3: 1.0, 1e-2: 2.0, 1e-1: 3.0}).endswith("is the smallest of those tried: try smaller ones too.")


def test_sweeps_over_anything_else_are_left_alone() -> None:
    assert list(learning_rates(Sweep().add("l1", 0.1, 1.0).add("l1", 0.2, 2.0).add("l1", 0.3, 3.0).choice())) == []


def test_a_rate_that_fails_wildly_does_not_count_in_the_luck_of_the_best() -> None:
    wild = Sweep(noise=0.05).add("l1", 0.1, 1.0).add("l1", 0.2, 1.001)
    told = wild.text()
    wild.noise = 500.0
    wild.add("l1", 0.3, 900.0)
    corrected = [line for line in wild.text().splitlines() if "looks better than it is" in line]
    assert all("is about 1." in line for line in corrected)
    assert ("looks better than it is" in told) == bool(corrected)
