"""`assistant why`: the episode of a question and the text that was recalled for it, by number or the last."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from tests.assistant.command import run, run_json
from tests.assistant.test_map import TOPICS, bring
from tests.conftest import RunningDaemon


def test_a_question_its_episode_and_its_sources(daemon: RunningDaemon, home: Path) -> None:
    bring(home, TOPICS)
    first = run_json("ask", "-c", "trip", "tell me about dogs")
    second = run_json("ask", "-c", "trip", "and what of money")
    record = run_json("why", "last", "-c", "trip")
    assert (record["conversation"], record["turn"], record["text"]) == ("trip", second["turn_id"], "and what of money")
    route = record["route"]
    assert (route["episode"], route["title"], route["similarity"]) == (2, "money", 0.5)
    assert (route["runner_up"], route["runner_up_similarity"], route["switched"]) == (1, 0.25, True)
    near = route["nearest"]
    assert [(one["segment"], one["similarity"]) for one in near] == [(0, 0.75)]
    assert near[0]["turns"][3]["text"] == "user: dogs are what we talk about 3"
    assert record["recalled"]["missed"] == 0.01
    spans = record["recalled"]["spans"]
    assert [(span["first"], span["last"]) for span in spans] == [(0, 64), (128, 192)]
    texts = [[turn["text"] for turn in span["turns"]] for span in spans]
    assert texts[0][0] == "user: dogs are what we talk about 0"
    assert all(turn["first_token"] < span["last"] for span in spans for turn in span["turns"])
    assert all(turn["last_token"] > span["first"] for span in spans for turn in span["turns"])
    earlier = run_json("why", str(first["turn_id"]))
    assert (earlier["route"]["title"], earlier["route"]["switched"]) == ("dogs", False)
    assert run_json("why", str(first["reply_id"])) == earlier, "a reply stands for its question"

    shown = run("why", "last", "-c", "trip").stdout.splitlines()
    assert shown[0].endswith(": and what of money")
    assert shown[1] == "Episode 2 (money), similarity 0.50; next is 1 (dogs) with 0.25. Switched from 1 (dogs)."
    turn = run_json("map")["stretches"][0]["first_turn"]
    assert shown[2] == "Similarity is a cosine; below 0.25 no episode counts as near."
    assert shown[4] == f"Like the question: turns {turn}-{turn + 3}, similarity 0.75"
    assert shown[8] == f"  turn {turn + 3}, user, 8 May: dogs are what we talk about 3"
    assert shown[10] == "Of all attention, an estimated 1.0% (at most 2.0%) was on stored tokens that stayed away."
    assert shown[11] == "1 of 9 steps attended to every stored token."
    assert shown[12] == "Attention says what the reply used, not what caused it."
    assert "Recalled: 5 entries of tokens 0-63, 12.5% of attention" in shown
    assert f"  turn {turn}, user, 8 May: dogs are what we talk about 0" in shown


def test_it_is_known_after_a_restart(start_daemon: Callable[..., RunningDaemon], home: Path) -> None:
    first = start_daemon()
    bring(home, TOPICS)
    run("ask", "-c", "trip", "tell me about dogs")
    before = run_json("why", "last")
    first.signal(signal.SIGTERM)
    start_daemon()
    assert run_json("why", "last") == before


def test_nothing_recalled_and_nothing_noted(daemon: RunningDaemon, home: Path) -> None:
    run("ask", "-c", "trip", "hello")
    shown = run("why", "last").stdout.splitlines()
    assert shown[1:] == [
        "It went to no episode: there was none yet.",
        "",
        "Nothing was recalled: whatever the reply attended to was on the device, or was read exactly.",
    ]
    bring(home, TOPICS, "other")
    turn = run_json("map", "-c", "other")["stretches"][0]["first_turn"]
    record = run_json("why", str(turn))
    assert (record["conversation"], record["route"], record["recalled"]) == ("other", None, None)
    assert "Nothing was noted" in run("why", str(turn)).stdout


def test_what_is_no_turn_is_refused(daemon: RunningDaemon, home: Path) -> None:
    assert "no conversations yet" in run("why", "last", code=2).stderr
    (home / "talk.jsonl").write_text('{"sessions": [{"turns": [{"speaker": "Ada", "text": "Hello, Ben."}]}]}')
    run("import", str(home / "talk.jsonl"), "-c", "trip")
    assert "Nothing was asked in 'trip' yet" in run("why", "last", code=2).stderr
    for word in ("first", "-1", "0", "9" * 30):
        assert run("why", "--", word, code=2).stderr.startswith(f"assistant: {word!r} is no turn")
    assert "There is no turn 99999" in run("why", "99999", code=2).stderr
    assert "There is no turn 99999 in 'trip'" in run("why", "99999", "-c", "trip", code=2).stderr


def test_control_characters_do_not_reach_the_terminal(daemon: RunningDaemon, home: Path) -> None:
    bring(home, ["\x1b[31mred", "dogs"])
    run("ask", "-c", "trip", "tell me about dogs")
    assert "\x1b" not in run("why", "last").stdout
    assert "\x1b" not in run("map").stdout
