"""YAML of a stranger's: plain data of limited size, or one sentence. More of it: tests/security/corpus."""

import pytest
from omegaconf import OmegaConf

from reglab.config.paths import conf_dir
from reglab.config.yaml_file import check_yaml, read_mapping, read_plain
from reglab.core.errors import UserError


def test_what_people_write_is_read(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("a: &a [1, 2.5, null, yes]\nb: *a\nc: &c {d: '${oc.env:X}'}\ne: {<<: *c, f: \"!x\"}\n# &x *x !y\n")
    assert read_plain(file)["b"] == [1, 2.5, None, True]
    assert OmegaConf.to_container(read_mapping(file))["e"] == {"d": "${oc.env:X}", "f": "!x"}
    file.write_text("")
    assert read_plain(file) == {}
    assert read_mapping(file) == {}


def test_all_of_our_own_pass():
    files = list(conf_dir().rglob("*.yaml"))
    assert len(files) > 30
    for file in files:
        check_yaml(file)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"a: !!python/object/apply:os.system [ls]", "has the YAML tag"),
        (b"a: !!str 1", "has the YAML tag"),
        (b"a: !mine {b: 1}", "has the YAML tag '!mine'"),
        (b"a: &a {b: *a}", r"alias \*a, which refers to itself or to nothing"),
        (b"a: *b", "refers to itself or to nothing|cannot be read as YAML"),
        (b"x" * 4_000_001, "has more than 4 MB"),
        (b"a: " + b"{a: " * 60 + b"1" + b"}" * 60, "nested more than 50 deep"),
        (b"\n".join([b"a: &a " + b"x" * 100_000, b"b: [" + b"*a, " * 50 + b"]"]), "too large once its aliases"),
        (b"a: [", "cannot be read as YAML"),
        (b"a: \xff\xfe", "cannot be read as YAML"),
        (b"a: 1\na: 2", "duplicate key a"),
        (b"[1, 2]", "is not a mapping"),
        (b"17", "cannot be read as YAML|is not a mapping"),
    ],
)
def test_everything_else_is_refused_in_a_sentence(tmp_path, content, said):
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=said) as refused:
        read_mapping(file)
    assert len(str(refused.value)) < 600
    assert "\n" not in str(refused.value)
