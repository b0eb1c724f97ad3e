"""Groups of vectors: reproducible, stable in their ids, bounded in their number."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from memory.cluster import EPISODES, FIRST, MOST, Grouping, kmeans, regrouped


def blobs(centres: int, each: int, spread: float = 0.05, seed: int = 0) -> tuple[Tensor, list[int]]:
    """Unit vectors around `centres` orthogonal directions, one of each in turn; and which."""
    random = torch.Generator().manual_seed(seed)
    labels = [index % centres for index in range(centres * each)]
    noise = spread * torch.randn(len(labels), 64, generator=random)
    return normalize(torch.eye(64)[labels] + noise, dim=-1), labels


def partition(labels: list[int]) -> set[frozenset[int]]:
    """Who is with whom, whatever the groups are called."""
    return {frozenset(place for place, label in enumerate(labels) if label == one) for one in set(labels)}


def test_kmeans_finds_what_lies_together() -> None:
    vectors, labels = blobs(4, 9)
    assert partition(kmeans(vectors, 4).tolist()) == partition(labels)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5))
@settings(max_examples=40)
def test_kmeans_is_deterministic_and_makes_no_more_groups_than_asked_or_possible(n: int, k: int, seed: int) -> None:
    vectors = normalize(torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)
    labels = kmeans(vectors, k)
    assert torch.equal(labels, kmeans(vectors, k))
    assert sorted(set(labels.tolist())) == list(range(len(set(labels.tolist()))))
    assert len(set(labels.tolist())) <= min(n, k)


@pytest.mark.parametrize("count", [1, FIRST, 100])
def test_equal_vectors_are_one_group(count: int) -> None:
    grouping = regrouped([torch.eye(64)[0]] * count)
    assert set(grouping.labels) == {1}
    assert grouping.cohesion() == pytest.approx(1.0)


def test_a_vector_unlike_all_others_begins_a_group() -> None:
    grouping = Grouping()
    first, near = torch.eye(64)[0], normalize(torch.eye(64)[0] + 0.3 * torch.eye(64)[1], dim=-1)
    assert [grouping.add(first), grouping.add(near), grouping.add(torch.eye(64)[5])] == [1, 1, 2]
    assert grouping.centroids().norm(dim=-1).tolist() == pytest.approx([1.0, 1.0])


def test_all_different_makes_no_more_groups_than_have_eight_members() -> None:
    vectors = normalize(torch.randn(400, 384, generator=torch.Generator().manual_seed(1)), dim=-1)
    grouping = Grouping()
    for count, vector in enumerate(vectors, 1):
        grouping.add(vector)
        assert len(grouping.sums) <= max(EPISODES, count // 8)
    assert EPISODES < len(grouping.sums) <= MOST


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.integers(0, 3))
@settings(max_examples=30)
def test_groups_are_whole_and_their_sums_are_those_of_their_members(topics: list[int], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    vectors = normalize(torch.eye(16)[topics] + 0.3 * torch.randn(len(topics), 16, generator=random), dim=-1)
    grouping = regrouped(list(vectors))
    assert sorted(place for group in grouping.ids for place in grouping.members(group)) == list(range(len(topics)))
    for group in grouping.ids:
        assert torch.allclose(grouping.sums[group], vectors[grouping.members(group)].sum(0), atol=1e-5)
    mean = torch.cat([grouping.similarities(group) for group in grouping.ids]).mean()
    assert grouping.cohesion() == pytest.approx(float(mean), abs=1e-5)
    assert max(grouping.ids) < grouping.next_id


def test_ids_stay_with_the_topics_when_everything_is_grouped_anew() -> None:
    vectors, topics = blobs(4, 40)
    grouping, names = Grouping(), dict[int, int]()
    for number, (vector, topic) in enumerate(zip(vectors, topics, strict=True)):
        group = grouping.add(vector)
        if number < 16:  # until there are as many groups as topics, one group holds several
            names[topic] = group
        elif len(grouping.log) > 1:
            assert names.setdefault(topic, group) == group
    assert [entry.reason for entry in grouping.log] == ["first", "doubled", "doubled", "doubled", "doubled"]
    assert sorted(names.values()) == grouping.ids


def test_drift_groups_everything_anew_before_it_has_doubled() -> None:
    tight, _ = blobs(1, 40, spread=0.01)
    loose = normalize(
        tight[0] * 0.5 + normalize(torch.randn(30, 64, generator=torch.Generator().manual_seed(3)), dim=-1)
    )
    grouping = regrouped(list(tight))
    for vector in loose:
        grouping.add(vector)
    assert grouping.log[-1].reason == "drifted"


def test_ids_are_never_given_twice() -> None:
    vectors, _ = blobs(4, 10)
    before = regrouped(list(vectors))
    after = regrouped(list(vectors[:3]), before.next_id)
    assert after.ids == regrouped(list(vectors[:3])).ids, "the beginning has the ids it had"
    assert after.add(-vectors[0]) == before.next_id > max(before.ids)


def test_recorded_groups_go_on_as_if_they_had_never_been_put_away() -> None:
    vectors, _ = blobs(4, 20, spread=0.4)
    whole = regrouped(list(vectors))
    part = regrouped(list(vectors[:37]))
    again = Grouping.of(list(vectors[:37]), list(part.labels), part.next_id, list(part.log))
    for vector in vectors[37:]:
        again.add(vector)
    assert again.labels == whole.labels
    assert again.log == whole.log
