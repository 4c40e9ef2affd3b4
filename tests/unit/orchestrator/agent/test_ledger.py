"""Who waits and who is done."""

from stackctl.orchestrator.agent.ledger import Ledger


def test_what_dies_soon_after_it_was_brought_back_waits_twice_as_long_each_time():
    ledger = Ledger()
    now, waits = 100.0, []
    ledger.ended("web", "c1", 1, now)  # the first time it comes back at once
    assert ledger.held(now) == set()
    for _ in range(12):
        ledger.brought("web", now)
        ledger.ended("web", "c1", 1, now + 0.01)
        waits.append(round(ledger.patience(now + 0.01) or 0, 3))
        assert ledger.held(now + 0.01) == {"web"}
        now += waits[-1] + 0.02
        assert ledger.held(now) == set()
    assert waits[:4] == [0.2, 0.4, 0.8, 1.6]
    assert waits[-1] == 60.0


def test_who_stayed_up_for_a_while_starts_anew():
    ledger = Ledger()
    for _ in range(5):
        ledger.failed("web", 0)
    ledger.brought("web", 20)
    ledger.ended("web", "c1", 1, 60)
    assert ledger.held(60) == set()
    ledger.failed("web", 61)
    assert round(ledger.patience(61) or 0, 3) == 0.2


def test_an_end_with_zero_is_done_unless_someone_asked_for_it():
    ledger = Ledger()
    ledger.ended("job", "c1", 0, 1)
    assert ledger.done == {"c1"}
    ledger.started("c1")
    ledger.signalled("c1")
    ledger.ended("job", "c1", 0, 2)
    assert ledger.done == set()
    ledger.ended("job", "c1", 0, 3)
    ledger.gone("c1")
    assert ledger.done == set()


def test_an_end_that_was_asked_for_makes_nobody_wait():
    ledger = Ledger()
    ledger.brought("web", 1)
    ledger.signalled("c1")
    ledger.ended("web", "c1", 137, 1.5)
    assert ledger.held(1.5) == set()


def test_who_may_be_tried_again_while_others_are_mended_is_not_forgotten() -> None:
    ledger = Ledger()
    ledger.failed("web", 10.0)
    assert ledger.held(10.1) == {"web"}
    assert ledger.patience(10.5) == 0.0
    ledger.let_go(10.5)
    assert ledger.patience(10.5) is None
