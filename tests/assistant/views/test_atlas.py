"""The episode map: sittings by silence or date, one state a cell, rows of any width, words that filter."""

from __future__ import annotations

from datetime import UTC

import pytest

from assistant.protocol import Episodes
from assistant.views.atlas import SHAPES, Sitting, atlas, rows, states
from tests.assistant.views.made import episodes, turn


def labels(drawn: list[Sitting]) -> list[tuple[str, list[tuple[int, ...]]]]:
    return [(one.label, [cell.turns for cell in one.cells]) for one in drawn]


def test_half_an_hour_of_silence_begins_a_sitting() -> None:
    said = [turn(1, 0), turn(2, 1), turn(3, 31), turn(4, 32), turn(5, 63), turn(6, 64)]
    assert labels(atlas(said, Episodes(), UTC)) == [
        ("2026-11-21 10:00", [(1, 2), (3, 4)]),
        ("2026-11-21 11:03", [(5, 6)]),
    ]


def test_an_imported_transcript_is_divided_by_its_dates() -> None:
    said = [turn(number, role="transcript") for number in range(1, 9)]
    found = episodes(8)
    for number, one in enumerate(one for segment in found.segments for one in segment.turns):
        one.date = "8 May" if number < 5 else "9 May"
    assert labels(atlas(said, found, UTC)) == [("8 May", [(1, 2), (3, 4), (5, 6)]), ("9 May", [(7, 8)])]


def test_a_system_prompt_lies_with_the_first_exchange() -> None:
    said = [turn(1, role="system"), turn(2, role="user"), turn(3, role="assistant"), turn(4, role="user")]
    assert labels(atlas(said, Episodes(), UTC))[0][1] == [(1, 2, 3), (4,)]


@pytest.mark.parametrize(
    ("residency", "stored", "drawn"),
    [
        ([1.0, 1.0, 0.5, 0.0, 0.0, 0.0], 384, "█▒░"),
        ([1.0, 1.0, 0.0, 0.0], 256, "█░·"),
        (None, 384, "░░░"),
        (None, 256, "░░·"),
        (None, 0, "···"),
        (None, None, "░░░"),
    ],
)
def test_where_the_kv_of_a_cell_lies(residency: list[float] | None, stored: int | None, drawn: str) -> None:
    found = episodes(6, residency=residency, stored=stored)
    cells = atlas([turn(number) for number in range(1, 7)], found, UTC)[0].cells
    assert "".join(cell.shape for cell in cells) == drawn
    assert [cell.episode for cell in cells] == [1, 1, 2]


def test_what_was_never_read_is_text_only_and_states_add_up() -> None:
    drawn = atlas([turn(number) for number in range(1, 9)], episodes(4, residency=[1.0] * 4, stored=256), UTC)
    assert "".join(cell.shape for cell in drawn[0].cells) == "██··"
    assert states(drawn) == {"verbatim": 256, "compressed": 0, "on disk": 0, "text only": 0}


def test_shapes_can_be_told_apart_without_colour() -> None:
    assert len(set(SHAPES.values())) == len(SHAPES)


def test_long_sittings_go_on_in_the_next_row() -> None:
    said = [turn(number) for number in range(1, 21)]
    drawn = rows(atlas(said, Episodes(), UTC), 4)
    assert [(row.label, row.first, len(row.cells)) for row in drawn] == [
        ("2026-11-21 10:00", 0, 4),
        ("", 4, 4),
        ("", 8, 2),
    ]


def test_words_leave_the_cells_that_say_all_of_them() -> None:
    said = [turn(1, text="A dog called [b]Biscuit[/b]"), turn(2, text="Nice."), turn(3, 60, text="money"), turn(4, 61)]
    drawn = atlas(said, Episodes(), UTC)
    found = rows(drawn, 10, "DOG [b]biscuit")
    assert [(row.label, row.first, [cell.turns for cell in row.cells]) for row in found] == [
        ("2026-11-21 10:00", 0, [(1, 2)])
    ]
    assert rows(drawn, 10, "dog money") == []
