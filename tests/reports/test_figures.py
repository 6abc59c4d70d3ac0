import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from reglab.analysis.selection import select
from reglab.analysis.sweep_data import SweepData, curve
from reglab.reports.figures import draw
from reglab.reports.figures.axis import block_axis
from reglab.reports.figures.canvas import themed
from reglab.reports.figures.colours import GREY, colours
from reglab.reports.figures.strength import draw_strength
from reglab.reports.figures.summary import rows
from reglab.reports.figures.weights import shares
from reports.sweep_cases import sweep, trial

select = partial(select, rule="paired_1se")


@pytest.fixture(scope="module")
def data():
    return sweep()


@pytest.fixture(scope="module")
def pictures(data):
    return {picture.name: picture for picture in draw(data, select(data.trials))}


def texts(svg):
    return {
        "".join(element.itertext()).strip() for element in ElementTree.fromstring(svg).iter() if "text" in element.tag
    }


def test_every_figure_is_well_formed_small_and_has_text_as_text(pictures):
    assert list(pictures) == ["summary", "strength", "gap", "curves", "weights"]
    for picture in pictures.values():
        assert len(picture.svg) < 150_000
        assert texts(picture.svg)
    assert {"none", "dropout 0.3", "0.173", "gap in loss"} <= texts(pictures["summary"].svg)


def test_ids_do_not_collide_and_references_resolve(pictures):
    shown: set[str] = set()
    for picture in pictures.values():
        ids = {e.get("id") for e in ElementTree.fromstring(picture.svg).iter() if e.get("id")}
        assert not ids & shown
        shown |= ids
        used = {
            part.split('"')[0].split(")")[0] for part in picture.svg.split("#")[1:] if part.startswith(picture.name)
        }
        assert used == ids


def test_colours_follow_the_page(pictures):
    for picture in pictures.values():
        assert "var(--muted)" in picture.svg
    assert "currentColor" in pictures["summary"].svg


def test_the_same_data_gives_the_same_svg():
    data = sweep(["none", "l1"])
    first, again = (draw(data, select(data.trials)) for _ in range(2))
    assert first == again


def test_markup_and_dollars_in_labels_are_only_text():
    runs = [trial("none", None, 0.0, seed) for seed in range(2)]
    odd = [trial("l1", s, 0.5, seed, block="<b>a $x_2$ &") for s in (0.1, 0.2) for seed in range(2)]
    choice = select([*runs, *odd])
    drawn = {picture.name: picture.svg for picture in draw(SweepData("odd", (*runs, *odd)), choice)}
    assert any(text.startswith("<b>a $x_2$ &") for text in texts(drawn["summary"]))


def test_very_long_names_and_other_scripts_are_drawn():
    long = trial("l1", 0.1, 0.5, 0, block="正则化" + "x" * 300)
    data = SweepData("long", (long, trial("none", None, 0.0, 0)))
    assert "正则化" in draw(data, select(data.trials))[0].svg


def test_points_stand_at_the_mean_of_the_seeds(data):
    choice = select(data.trials)
    with themed():
        figure = draw_strength(choice, "accuracy", colours((c.block, c.regularizer) for c in choice.candidates))
    drawn = {axis.get_title(loc="left"): axis for axis in figure.axes[:5]}["l1"]
    line = next(line for line in drawn.get_lines() if len(line.get_xdata()) == 4)
    expected = [
        np.mean([t.metrics["gap/loss"] for t in data.trials if (t.block, t.strength) == ("l1", s)])
        for s in (1e-5, 1e-4, 1e-3, 1e-2)
    ]
    np.testing.assert_allclose(line.get_ydata(), expected)
    assert drawn.get_xscale() == "log"


def test_stronger_is_to_the_right_where_smaller_is_stronger(data):
    choice = select(data.trials)
    with themed():
        figure = draw_strength(choice, "accuracy", colours((c.block, c.regularizer) for c in choice.candidates))
    axis = next(axis for axis in figure.axes if axis.get_title(loc="left") == "max_norm")
    left, right = axis.get_xlim()
    assert left > right


def test_what_other_measures_name_is_drawn_against_strength(data):
    changed = [
        replace(each, metrics={**each.metrics, "weights/spectral_norm": 2.0, "calibration/val_ece": 0.1})
        for each in data.trials
    ]
    asked = replace(data, trials=tuple(changed), charts=("calibration/*_ece", "weights/spectral_norm", "other/*"))
    pictures = {picture.name: picture for picture in draw(asked, asked.choose())}
    assert "calibration/val ece" in pictures["measures"].svg
    assert "weights/spectral norm" in pictures["measures"].svg
    assert "measures" not in {picture.name for picture in draw(data, data.choose())}


def test_rows_are_baseline_chosen_then_the_blocks_by_loss(data):
    assert [c.label for c in rows(select(data.trials))] == [
        "none",
        "dropout 0.3",
        "l1+dropout 1e-4",
        "l1 1e-4",
        "l2 0.001",
        "max_norm 1",
    ]


def test_a_sweep_over_another_number_is_drawn_against_it():
    rates = [("0.1", 0.5), ("0.01", 0.3), ("0.001", 0.4)]
    runs = [trial("none", None, p, s, params={"optimizer.lr": r, "seed": str(s)}) for r, p in rates for s in range(2)]
    choice = select(runs)
    where = block_axis(choice.candidates)
    assert where is not None
    assert (where.name, where.ticks, where.stronger) == ("lr", [0.001, 0.01, 0.1], 0)
    assert [picture.name for picture in draw(SweepData("lr", tuple(runs)), choice)] == ["summary", "strength"]


def test_a_second_swept_number_makes_one_line_each():
    runs = [
        trial("l1", s, 0.5, 0, params={"regularizer.l1.strength": str(s), "optimizer.lr": lr})
        for s in (0.1, 0.2)
        for lr in ("0.1", "0.01")
    ]
    where = block_axis(select(runs).candidates)
    assert where is not None
    assert [[x for x, _ in line] for line in where.lines] == [[0.1, 0.2], [0.1, 0.2]]


def test_settings_without_a_number_have_no_axis():
    runs = [trial("none", None, 0.1, 0, params={"optimizer._target_": name}) for name in ("SGD", "Adam")]
    assert block_axis(select(runs).candidates) is None
    assert [picture.name for picture in draw(SweepData("names", tuple(runs)), select(runs))] == ["summary"]


def test_zero_strength_has_its_place_on_a_logarithmic_axis():
    runs = [trial("l1", s, 0.5, 0) for s in (0.0, 1e-4, 1e-3, 1e-2)]
    with themed():
        figure = draw_strength(select(runs), "accuracy", {"l1": "#000000"})
    assert figure.axes[-1].get_xscale() == "symlog"


def test_curve_is_mean_and_range_up_to_the_first_end(data):
    runs = tuple(trial("l1", 0.1, 0.5, seed) for seed in range(2))
    choice = select(runs)
    long, short = [(e, float(e)) for e in range(6)], [(e, 2.0 * e) for e in range(4)]
    actual = curve(choice.best, {runs[0].run_id: {"x": long}, runs[1].run_id: {"x": short}}, "x")
    assert actual is not None
    assert actual.epochs.tolist() == [0, 1, 2, 3]
    assert actual.mean.tolist() == [0, 1.5, 3, 4.5]
    assert (actual.low.tolist(), actual.high.tolist()) == ([0, 1, 2, 3], [0, 2, 4, 6])
    assert curve(choice.best, {}, "x") is None


def test_long_curves_are_thinned_with_both_ends():
    run = trial("l1", 0.1, 0.5, 0)
    actual = curve(select([run]).best, {run.run_id: {"x": [(e, 0.0) for e in range(5001)]}}, "x", points=100)
    assert actual is not None
    assert (len(actual.epochs), actual.epochs[0], actual.epochs[-1]) == (100, 0, 5000)


def test_a_loss_that_was_infinite_for_an_epoch_is_drawn():
    data = sweep(["none", "l1"])
    broken = {
        run: {key: [(e, np.inf if e == 3 else v) for e, v in rows_] for key, rows_ in keys.items()}
        for run, keys in data.histories.items()
    }
    names = [picture.name for picture in draw(replace(data, histories=broken), select(data.trials))]
    assert names == ["summary", "strength", "gap", "curves", "weights"]


def test_weight_shares_add_up_to_one_with_the_zeros():
    weights = np.array([0.0, 0.0, 0.5, -0.25, 9.0])
    binned, zeros = shares(weights, np.linspace(-1, 1, 5))
    assert binned.tolist() == [0, 0.2, 0, 0.4]
    assert zeros == pytest.approx(0.4)


def test_colours_are_distinct_and_the_baseline_is_grey():
    actual = colours([("none", "none"), ("a", "l1"), ("b", "l1"), ("c", "l1+dropout"), ("d", "mine")])
    assert actual["none"] == GREY
    assert len(set(actual.values())) == 5
    assert actual["a"] == colours([("other", "l1")])["other"]


def test_more_blocks_than_colours_still_have_one():
    actual = colours([(str(number), "mine") for number in range(30)])
    assert len(actual) == 30
