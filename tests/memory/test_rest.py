"""What stands in for the stored tokens that were not chosen, against attention to all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from memory.attention import merge, partial_attention
from memory.recall import RecallPass
from memory.rest import Rest
from tests.memory.models import tokens
from tests.memory.test_recall import TEXT, recalling
from tests.memory.tiers import read_all

HEADS, GROUP, SIZE, ROWS, OTHERS = 2, 3, 8, 5, 7
SCALE = SIZE**-0.5


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def of(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, chosen: torch.Tensor) -> Rest:
    """For `keys` and `values` [heads, rows x 64 + others, size]."""
    logits = queries @ keys.transpose(1, 2) * SCALE
    means = [part[:, : ROWS * 64].unflatten(1, (ROWS, 64)).mean(2) for part in (keys, values)]
    return Rest.of(queries * SCALE, logits, logits.softmax(-1), chosen, *means)


def parts(*, alike: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of rows and of others; `alike`: those of a row are all the same."""
    found = []
    for kind in range(2):
        rows = numbers(HEADS, ROWS, 1 if alike else 64, SIZE + kind)[..., :SIZE].expand(-1, -1, 64, -1)
        found.append(torch.cat((rows.flatten(1, 2), numbers(HEADS, OTHERS, SIZE + kind)[..., :SIZE]), dim=1))
    return found[0], found[1]


def attended(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return partial_attention(query[None], keys[None], values[None], SCALE)


def test_for_the_queries_that_chose_rows_of_like_tokens_lose_nothing() -> None:
    keys, values = parts(alike=True)
    queries, chosen = numbers(HEADS, GROUP, SIZE), torch.tensor([[3, 70, 200], [64, 65, 319]])
    rest = of(queries, keys, values, chosen)
    held = torch.cat((chosen, torch.arange(ROWS * 64, ROWS * 64 + OTHERS).expand(HEADS, -1)), dim=1)
    resident = [part.gather(1, held[..., None].expand(-1, -1, SIZE)) for part in (keys, values)]

    both = merge(attended(queries, *resident), rest.attend(queries[None], SCALE))
    whole = attended(queries, keys, values)

    assert torch.allclose(both[0], whole[0], atol=1e-5)
    assert torch.allclose(both[1], whole[1], atol=1e-5)


def test_for_other_queries_the_rest_is_never_given_more_than_it_has() -> None:
    keys, values = parts(alike=True)
    queries, nothing = numbers(HEADS, GROUP, SIZE), torch.zeros((HEADS, 0), dtype=torch.int64)
    rest = of(queries, keys, values, nothing)
    stored = keys[:, : ROWS * 64]
    for step in range(20):
        other = queries + 0.2 * step * numbers(HEADS, GROUP, SIZE, step + 1)[..., 0]
        true = (other @ stored.transpose(1, 2) * SCALE).logsumexp(-1)
        assert bool((rest.attend(other[None], SCALE)[1][0] <= true + 1e-4).all())


def test_where_nothing_is_left_nothing_stands_in() -> None:
    keys, values = parts(alike=False)
    queries = numbers(HEADS, GROUP, SIZE)
    rest = of(queries, keys, values, torch.arange(ROWS * 64).expand(HEADS, -1))
    resident = attended(queries, keys, values)

    assert torch.allclose(merge(resident, rest.attend(queries[None], SCALE))[0], resident[0], atol=1e-6)


@pytest.mark.usefixtures("always_bearable")
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
def test_replies_come_closer_to_those_with_everything_resident(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = tokens(12, 77)

    def logits(name: str, capacity: int) -> torch.Tensor:
        with recalling(kind, tmp_path / name, capacity=capacity) as memory:
            read_all(memory, TEXT[:450])
            return torch.stack([memory.step(token) for token in more])

    whole, ours = logits("whole", 512), logits("ours", 200)
    monkeypatch.setattr(RecallPass, "rest", lambda *_: None)
    without = logits("without", 200)

    assert float((ours - whole).norm()) < 0.8 * float((without - whole).norm())
