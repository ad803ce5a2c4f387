"""Which labelled cases are drawn."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from alice3d.data.store import Store
from alice3d.errors import UserError
from alice3d.tasks.cases import draw_cases, labelled_cases


@dataclass(frozen=True)
class Labelled:
    """What the functions ask of a case."""

    id: str
    structures: tuple[int, ...]
    labelled: bool = True
    split: str = "train"
    known_patient: str = ""

    @property
    def patient(self) -> str:
        return self.known_patient or self.id


@dataclass
class Shelf:
    """What the functions ask of a store."""

    held: list[Labelled]
    splits: list[str] = field(default_factory=lambda: ["train"])

    def cases(self, split: str) -> list[Labelled]:
        return [case for case in self.held if case.split == split]


CASES = [Labelled(f"case_{n:02}", (1, 2, 3) if n == 7 else (1, 2)) for n in range(12)]


@pytest.mark.parametrize("seed", range(5))
def test_draws_are_nested(seed):
    draws = [draw_cases(CASES, count, seed) for count in range(1, 13)]
    for small, large in itertools.pairwise(draws):
        assert large[: len(small)] == small
    assert sorted(case.id for case in draws[-1]) == [case.id for case in CASES]


def test_a_small_draw_lacks_no_structure():
    for seed in range(10):
        assert CASES[7] in draw_cases(CASES, 2, seed)


def test_seeds_differ_and_repeat():
    assert draw_cases(CASES, 4, 1) == draw_cases(CASES, 4, 1)
    assert len({tuple(case.id for case in draw_cases(CASES, 4, seed)) for seed in range(8)}) > 4


def test_too_many_labels():
    with pytest.raises(UserError, match="13 labelled cases are requested, the training split has 12"):
        draw_cases(CASES, 13, 0)


def test_all_labels():
    assert draw_cases(CASES, None, 0) == CASES


def test_labelled_cases():
    shelf = Shelf([*CASES, Labelled("empty", ()), Labelled("none", (), labelled=False)])
    assert labelled_cases(shelf, "train") == [*CASES, Labelled("empty", ())]  # healthy
    with pytest.raises(UserError, match="no split 'tset'; it has train"):
        labelled_cases(shelf, "tset")
    with pytest.raises(UserError, match="no case of split 'train' has labels"):
        labelled_cases(Shelf([Labelled("none", (), labelled=False)]), "train")


def test_healthy_cases_are_drawn_behind_those_that_add_a_structure():
    cases = [*(Labelled(f"h{n}", ()) for n in range(6)), *CASES[6:9]]
    for seed in range(5):
        assert [case.id[0] for case in draw_cases(cases, 1, seed)] == ["c"]
        drawn = draw_cases(cases, 9, seed)
        assert sorted(case.id for case in drawn) == sorted(case.id for case in cases)
    assert any(case.id[0] == "h" for seed in range(5) for case in draw_cases(cases, 4, seed))


def test_a_small_draw_lacks_no_class(tiny_store):
    cases = Store.open(tiny_store).cases()
    shown = {case.id: {"rare" if n == 5 else "common", "common"} for n, case in enumerate(cases)}
    for seed in range(6):
        drawn = draw_cases(cases, 2, seed, shows=lambda case: shown[case.id])
        assert "rare" in set().union(*(shown[case.id] for case in drawn))


def test_draws_count_patients_and_take_all_of_their_cases():
    cases = [Labelled(f"c{n}{visit}", (1,), known_patient=f"key {9 - n}") for n in range(6) for visit in "ab"]
    for seed in range(5):
        drawn = [case.id for case in draw_cases(cases, 3, seed)]
        assert len(drawn) == 6
        assert {name[:2] + visit for name in drawn for visit in "ab"} == set(drawn)
        single = [Labelled(f"c{n}a", (1,)) for n in range(6)]  # keys of patients do not change the order
        assert [case.id for case in draw_cases(single, 3, seed)] == drawn[::2]
    with pytest.raises(UserError, match="7 patients with labelled cases are requested, the training split has 6"):
        draw_cases(cases, 7, 0)
