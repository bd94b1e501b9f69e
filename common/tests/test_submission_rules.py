"""Tables of rules over a meta file."""

from common.run.marked_yaml import read_marked
from common.run.submission.rules import Rule, check_rules, is_mapping, is_text, or_null

TEXT = """\
who:
- name: A
- name: 3
- B
empty: null
few: abc{0}
"""
RULES = (
    Rule("who", lambda value: isinstance(value, list), "a list"),
    Rule("who[]", is_mapping, "a person"),
    Rule("who[].name", is_text, "text"),
    Rule("who[].name", lambda value: value != "A", "{key} is {value!r}, expected another", "taken", "warning"),
    Rule("empty", or_null(is_text), "text, or null"),
    Rule("few", lambda value: len(value) < 3, "{value} has {length} characters, expected 2", "long"),
    Rule("few", lambda value: False, "only the first rule of a key is reported", "second"),
    Rule("fw", is_text, "text"),
    Rule("fw", lambda value: False, "a value that is not there breaks no rule about values", "value"),
    Rule(("who[]", "x"), is_text, "a key as it is"),
    Rule("empty[].x", is_text, "no item, no rule"),
)


def test_every_rule_is_walked_and_of_a_key_the_first_one_counts() -> None:
    meta = read_marked(TEXT, "x.yaml")
    check_rules(meta, RULES)
    assert [(of.line, of.rule, of.severity, of.message) for of in meta.found] == [
        (4, "meta-type", "error", "who[2] is str 'B', expected a person"),
        (3, "meta-type", "error", "who[1].name is int 3, expected text"),
        (2, "taken", "warning", "who[0].name is 'A', expected another"),
        (6, "long", "error", "abc{0} has 6 characters, expected 2"),
        (1, "meta-missing", "error", "no fw, expected text; did you mean 'few'?"),
        (1, "meta-missing", "error", "no who[].x, expected a key as it is"),
    ]
