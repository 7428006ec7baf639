"""The order in which a cache gives up its entries."""

from __future__ import annotations

from policyfs.store.admission import Frequencies, Victims


def order(victims: Victims) -> list[object]:
    return list(victims.next_ones(lambda key: True))


def test_counts_fade_and_what_is_counted_is_bounded():
    counts = Frequencies(8)
    for _ in range(4):
        counts.count("often")
    for once in range(4):
        counts.count(once)
    assert (counts["often"], counts[0]) == (2, 0)
    for key in range(1000):
        counts.count(key)
        assert len(counts) <= 8


def test_the_oldest_of_the_main_part_goes_where_the_window_is_empty():
    victims = Victims(10, 8)
    for key in "abc":
        victims.add(key, 4)  # larger than the window
    assert order(victims) == ["a", "b", "c"]
    victims.ask("a")
    assert order(victims) == ["b", "c", "a"]


def test_of_two_used_as_often_the_newer_one_goes():
    victims = Victims(100, 16)
    for key in range(4):
        victims.ask(key)
        victims.add(key, 1)
    assert order(victims) == [2, 3, 0, 1]


def test_what_was_asked_for_more_often_stays():
    victims = Victims(100, 16)
    for key in (0, 1, 2, 3, 2, 3):
        victims.ask(key)
    for key in range(4):
        victims.add(key, 1)
    assert order(victims) == [0, 1, 2, 3]


def test_what_may_not_go_is_passed_over_and_what_left_is_forgotten():
    victims = Victims(100, 16)
    for key in range(4):
        victims.add(key, 1)
    victims.remove(2)
    victims.remove(0)
    assert list(victims.next_ones(lambda key: key != 3)) == [1]


def test_the_window_is_bounded_by_cost_too():
    victims = Victims(80, 16)
    victims.add("small", 4)
    victims.add("large", 9)
    assert order(victims) == ["large", "small"], "the small one is in the main part by now"
    victims.add("huge", 11)
    assert order(victims) == ["small", "large", "huge"], "nothing is in the window"
