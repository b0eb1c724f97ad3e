"""The policy: which rule decides a call, and what a mistake in the file gets."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from assistant.agent.policy import Policy, Rule, load_policy
from assistant.errors import UsageError
from assistant.places import Places, find_places


@pytest.fixture
def here(tmp_path: Path) -> Places:
    places = find_places({"ASSISTANT_HOME": str(tmp_path)})
    places.config.mkdir()
    return places


def write(places: Places, text: str) -> None:
    (places.config / "agent-policy.toml").write_text(text, encoding="utf-8")


def decided(policy: Policy, tool: str, **arguments: Any) -> str | None:
    rule = policy.rule_for(tool, arguments)
    return rule.decision if rule else None


def one(decision: str, pattern: str) -> Policy:
    return Policy((Rule.model_validate({"tool": "read", "arguments": {"path": pattern}, "decision": decision}),))


def test_without_files_there_are_no_rules(here: Places) -> None:
    assert load_policy(here) == Policy()


def test_a_policy_that_was_named_must_be_there(here: Places, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mine\.toml cannot be read: No such file"):
        load_policy(here, tmp_path / "mine.toml")


def test_rules_of_both_files_hold_and_say_where_they_stand(here: Places, tmp_path: Path) -> None:
    write(here, '[[rule]]\ntool = "send_*"\ndecision = "deny"\nreason = "never"\n')
    project = tmp_path / "project.toml"
    project.write_text('[[rule]]\ntool = "a"\ndecision = "ask"\n[[rule]]\ntool = "write"\ndecision = "allow"\n')
    policy = load_policy(here, project)
    rule = policy.rule_for("send_mail", {})
    assert rule is not None
    assert (rule.decision, rule.reason) == ("deny", "never")
    assert rule.where == f"{here.config / 'agent-policy.toml'}, rule 1"
    written = policy.rule_for("write", {})
    assert written is not None
    assert written.where == f"{project}, rule 2"
    assert policy.rule_for("other", {}) is None


def test_the_highest_priority_wins_and_then_the_strictest_whatever_the_order() -> None:
    rules = [
        Rule(tool="x", decision="allow", priority=1),
        Rule(tool="*", decision="ask", priority=1),
        Rule(tool="x", decision="deny", priority=0),
    ]
    assert {decided(Policy(order), "x") for order in itertools.permutations(rules)} == {"ask"}
    stricter = [*rules, Rule(tool="?", decision="deny", priority=1)]
    assert {decided(Policy(order), "x") for order in itertools.permutations(stricter)} == {"deny"}
    freer = [*rules, Rule(tool="x", decision="allow", priority=2)]
    assert {decided(Policy(order), "x") for order in itertools.permutations(freer)} == {"allow"}


def test_a_rule_looks_at_the_arguments_it_names_and_at_no_others() -> None:
    policy = one("allow", "notes/*")
    assert decided(policy, "read", path="notes/a.md", lines=3) == "allow"
    assert decided(policy, "read", path="other/a.md") is None
    assert decided(policy, "read", lines=3) is None
    assert decided(policy, "reader", path="notes/a.md") is None


def test_a_value_that_is_no_text_is_matched_as_compact_json() -> None:
    policy = one("allow", '{"a":*,true?,"b":"é"}')
    assert decided(policy, "read", path={"b": "é", "a": [1, True]}) == "allow"
    assert decided(one("allow", "3"), "read", path=3) == "allow"
    assert decided(one("allow", "null"), "read", path=None) == "allow"


@pytest.mark.parametrize("path", ["/data/mine/../../etc/passwd", "/data/mine/..", "/data/mine/x && cat ../secret"])
def test_a_path_that_climbs_is_never_allowed_by_a_pattern(path: str) -> None:
    assert decided(one("allow", "/data/mine/*"), "read", path=path) is None
    assert decided(one("allow", "/data/mine/*"), "read", path="/data/mine/a..b/c...d") == "allow"


@pytest.mark.parametrize("path", ["/etc/passwd", "/home/../etc/passwd", "//etc/passwd", "/./etc//passwd"])
@pytest.mark.parametrize("decision", ["ask", "deny"])
def test_a_rule_that_restricts_is_not_passed_by_a_detour(decision: str, path: str) -> None:
    assert decided(one(decision, "/etc/*"), "read", path=path) == decision


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[rules]]\ntool = "x"\n', r"unknown key 'rules'; the nearest known key is 'rule'"),
        ('[[rule]]\ntool="a"\ndecision="ask"\n[[rule]]\ntol = "x"\n', r"rule 2, has the unknown key 'tol'.*'tool'"),
        ('[[rule]]\ntool = "x"\ndecision = "ask"\nwhere = "y"\n', r"rule 1, has the unknown key 'where'"),
        ('[[rule]]\ntool = "x"\ndecision = "yes"\n', r"rule 1, is not valid at decision.*'allow', 'ask' or 'deny'"),
        ('[[rule]]\ndecision = "ask"\n', r"rule 1, is not valid at tool: Field required"),
        ('[[rule]]\ntool = "x"\n', r"rule 1, is not valid at decision: Field required"),
        ('[[rule]]\ntool = "x"\ndecision = "ask"\npriority = true\n', r"not valid at priority"),
        ('[[rule]]\ntool = "x"\ndecision = "ask"\npriority = 1.5\n', r"not valid at priority"),
        ('[[rule]]\ntool = "x"\ndecision = "ask"\narguments = {n = 1}\n', r"not valid at arguments\.n"),
        ('rule = "x"\n', r"must write each rule under a line \[\[rule\]\]"),
        ("rule = [1]\n", r"must write each rule under a line \[\[rule\]\]"),
        ('[[rule]\ntool = "x"\n', r"is not valid TOML: .*line 1"),
    ],
)
def test_a_damaged_policy_is_a_sentence_with_the_rule_and_the_key(here: Places, text: str, told: str) -> None:
    write(here, text)
    with pytest.raises(UsageError, match=told):
        load_policy(here)


def test_a_policy_that_is_no_text_or_no_file_is_a_sentence(here: Places) -> None:
    path = here.config / "agent-policy.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not valid TOML"):
        load_policy(here)
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        load_policy(here)
