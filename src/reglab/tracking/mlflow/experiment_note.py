"""The note on an experiment's page."""

EXPERIMENT = """\
Runs of **reglab**. A sweep is one parent run; its runs are its children (sort by *Created* to see them nested). The
verdict of a sweep is in the note of its parent run, and its report among that run's artifacts.

| metrics | what they are |
|---|---|
| `train/*`, `val/*`, `test/*` | the data loss and the score alone: evaluation mode, plain targets, no penalty in them |
| `*/loss` of a regression | squared error, not halved, of the standardized target; `*/rmse` is in its own units |
| `*/weighted_*` | each row counts as its class or sample weight lets it count in training |
| `gap/loss` = val - train, `gap/<score>` = train - val | above 0 means overfitting |
| `gap/*_low`, `gap/*_high` | interval over examples, for this trained model; not other seeds; NaN: too few errors |
| `naive_gap/loss` | val - the running loss of training, which the gap above replaces |
| `objective/*` | the terms whose sum is minimized, apart |
| `weights/<parameter>/*`, `weights/all/*` | norms, exact zeros, distance from the start, size of the update |
| `final/*` | the same for the weights that the run stands for: sort and compare by these |

A gap also shrinks when training gets worse: read it beside `final/val/loss`.
"""
