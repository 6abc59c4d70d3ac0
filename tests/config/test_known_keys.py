"""A key of a file that nothing reads is told, with the nearest one that is."""

import pytest
from omegaconf import OmegaConf

from reglab.config.known_keys import check_known
from reglab.core.errors import UserError
from training.job_case import config


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("trainr.max_epochs", "trainr: .*did you mean 'trainer'"),
        ("sweep.sead", r"sweep\.sead: .*'seeds'"),
        ("logger", "logger: "),
    ],
)
def test_it_is_told(key: str, said: str) -> None:
    composed = config()
    OmegaConf.update(composed, key, 3, force_add=True)
    with pytest.raises(UserError, match=said):
        check_known(composed, [])


def test_what_is_read_or_meant_stays() -> None:
    check_known(config("regularizer=[l1]", "model=linear", "tracking=none"), [])
    composed = config("+note=first", "+width=6", "model.width=${width}")
    check_known(composed, ["+note=first", "+width=6"])
    check_known(config("+width=6", "model.width=${width}"), [])
