"""The order of the lane: classes, first come first served by program, and a bound on every wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assistant.daemon.order import Order, Place, Priority

CHAT, CONTINUATION, AGENT, BATCH = Priority


def in_order(*places: Place, now: float = 10.0) -> list[Place]:
    """All of them, as an order that is new picks them."""
    order, left = Order(), list(places)
    return [left.pop(order.next(left, now)) for _ in places]


def test_chat_goes_before_continuations_before_new_agents_before_batch() -> None:
    places = [Place(one, arrived=1.0, since=1.0) for one in (BATCH, AGENT, CHAT, CONTINUATION)]
    assert [place.priority for place in in_order(*places)] == [CHAT, CONTINUATION, AGENT, BATCH]


def test_inside_a_class_the_program_that_arrived_first_goes_first_though_its_step_came_last() -> None:
    late, early = Place(CONTINUATION, arrived=5.0, since=6.0), Place(CONTINUATION, arrived=1.0, since=9.0)
    assert in_order(late, early) == [early, late]


def test_inside_a_class_whose_working_set_is_there_goes_before_whose_is_not() -> None:
    absent = Place(CONTINUATION, arrived=1.0, since=9.0)
    there, later = (Place(CONTINUATION, arrived, since=9.0, resident=True) for arrived in (5.0, 6.0))
    chat = Place(CHAT, arrived=9.0, since=9.0)
    assert in_order(absent, later, there, chat) == [chat, there, later, absent]


def test_steps_of_one_program_go_as_they_came() -> None:
    second, first = Place(AGENT, arrived=1.0, since=3.0), Place(AGENT, arrived=1.0, since=2.0)
    assert in_order(second, first) == [first, second]


def test_an_overdue_job_goes_before_a_chat_but_only_one_in_so_many() -> None:
    order = Order(patience=60.0, every=4)
    now, picked = 1000.0, list[Priority]()
    waiting = [Place(BATCH, 1.0, 1.0 + number) for number in range(3)]
    for number in range(12):
        waiting.append(Place(CHAT, 900.0 + number, 999.0))
        picked.append(waiting.pop(order.next(waiting, now)).priority)
    assert picked == ([CHAT] * 3 + [BATCH]) * 3


def test_who_is_not_overdue_waits_its_turn() -> None:
    order = Order(patience=60.0, every=1)
    batch, chat = Place(BATCH, 1.0, 1.0), Place(CHAT, 50.0, 50.0)
    assert order.next([batch, chat], now=61.0) == 1
    assert order.next([batch, chat], now=61.1) == 0


places = st.builds(Place, st.sampled_from(list(Priority)), st.floats(0, 50), st.floats(0, 100), st.booleans())


@given(st.lists(places, min_size=1, max_size=12), st.integers(0, 9), st.floats(100, 400))
def test_positions_are_the_order_in_which_jobs_would_run(waiting: list[Place], before: int, now: float) -> None:
    order = Order()
    for _ in range(before):
        order.next([Place(CHAT, now, now)], now)
    positions = order.positions(waiting, now)
    left, ran = list(range(len(waiting))), dict[int, int]()
    for number in range(1, len(waiting) + 1):
        ran[left.pop(order.next([waiting[index] for index in left], now))] = number
    assert positions == [ran[index] for index in range(len(waiting))]


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(list(Priority)), st.floats(0, 1)), max_size=4), max_size=150),
    st.integers(1, 6),
)
def test_nothing_starves_whatever_arrives(arrivals: list[list[tuple[Priority, float]]], every: int) -> None:
    """A job takes a second, a lane of 8 is kept as full as the arrivals fill it: who waits longer than the patience
    runs after at most `every` jobs for itself and for each that waited longer when its patience ended."""
    patience, limit = 5.0, 8
    order = Order(patience, every)
    victim = Place(BATCH, 1e9, 0.0)
    waiting, now, overdue_jobs = [victim], 0.0, 0
    for coming in arrivals:
        for priority, arrived in coming[: limit - len(waiting)]:
            waiting.append(Place(priority, arrived, now, resident=True))
        ran = waiting.pop(order.next(waiting, now))
        if ran is victim:
            return
        overdue_jobs += now - victim.since > patience
        assert overdue_jobs < every
        now += 1.0


def test_the_bound_holds_in_a_full_lane_for_the_one_that_is_last_in_everything() -> None:
    order = Order(patience=5.0, every=4)
    waiting = [Place(AGENT, 0.0, float(number)) for number in range(7)]
    victim, now, overdue_jobs = Place(BATCH, 1e9, 7.0), 8.0, 0
    waiting.append(victim)
    while (ran := waiting.pop(order.next(waiting, now))) is not victim:
        overdue_jobs += now - victim.since > order.patience
        assert ran.priority is not BATCH
        waiting.append(Place(CHAT, 0.0, now))
        now += 1.0
    assert 0 < overdue_jobs <= order.every * 8
