"""The judge goes red: on a faked record with one thing wrong at a time, it names that law and no other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.judge import Law, is_settled, judge

Execution = dict[str, Any]
Lineage = dict[str, Any]
MAX_ATTEMPTS = 2


def run(uuid: str, status: str = "failed", parent: Execution | None = None) -> Execution:
    """An execution of the simulator's record, known to its parent."""
    made: Execution = {
        "execution_uuid": uuid,
        "workflow": "Claims",
        "root": parent["root"] if parent else uuid,
        "parent": parent["execution_uuid"] if parent else None,
        "retry": parent["retry"] + 1 if parent else 0,
        "clones": [],
        "status": status,
    }
    if parent:
        parent["clones"].append(uuid)
    return made


def lineage(root: str, state: str, *clones: str, reason: str = "") -> Lineage:
    attempts = [{"clone": clone, "evidence": "201"} for clone in clones]
    return {"root": root, "state": state, "reason": reason, "attempts": attempts}


@pytest.fixture
def executions() -> list[Execution]:
    """A chain that recovered with its second clone, one that was given up, and a stranger that completed."""
    good, bad = run("good"), run("bad")
    good_1 = run("good-1", parent=good)
    bad_1 = run("bad-1", parent=bad)
    return [
        *(good, good_1, run("good-2", "completed", good_1)),
        *(bad, bad_1, run("bad-2", parent=bad_1)),
        run("stranger", "completed"),
    ]


@pytest.fixture
def lineages() -> list[Lineage]:
    return [
        lineage("good", "recovered", "good-1", "good-2", reason="completed"),
        lineage("bad", "exhausted", "bad-1", "bad-2", reason="attempts_used_up"),
    ]


def laws(executions: list[Execution], lineages: list[Lineage], **more: int) -> set[Law]:
    return {each.law for each in judge(executions, lineages, max_attempts=MAX_ATTEMPTS, **more)}


def named(executions: list[Execution], uuid: str) -> Execution:
    return next(each for each in executions if each["execution_uuid"] == uuid)


def test_nothing_is_found_where_nothing_is_wrong(
    executions: list[Execution], lineages: list[Lineage]
) -> None:
    """The innocent go free: recovered, given up, and an ordinary run that no lineage has."""
    assert judge(executions, lineages, max_attempts=MAX_ATTEMPTS) == []


def test_a_second_clone_is_a_duplicate(executions: list[Execution], lineages: list[Lineage]) -> None:
    """Even if the second clone completed and no record knows of it."""
    executions.append(run("good-1b", "completed", named(executions, "good")))
    found = judge(executions, lineages, max_attempts=MAX_ATTEMPTS)
    assert [(each.law, each.execution_uuid) for each in found] == [(Law.DUPLICATE, "good")]
    assert "good-1, good-1b" in found[0].words


def test_a_failure_without_a_lineage_is_lost(executions: list[Execution], lineages: list[Lineage]) -> None:
    """Waiting may still bring its lineage, so it also counts as not settled."""
    executions.append(run("forgotten"))
    assert laws(executions, lineages) == {Law.LOST}
    assert not is_settled(judge(executions, lineages, max_attempts=MAX_ATTEMPTS))


def test_a_failed_clone_that_nobody_knows_is_lost(
    executions: list[Execution], lineages: list[Lineage]
) -> None:
    """A held lineage explains its own failure, not the one of a clone that it does not know."""
    late = run("late")
    executions += [late, run("late-1", parent=late)]
    lineages.append(lineage("late", "held", reason="unclear"))
    assert laws(executions, lineages) == {Law.LOST}
    lineages.append(lineage("late-1", "held", reason="may_be_a_clone"))
    assert laws(executions, lineages) == set()


@pytest.mark.parametrize("state", ["scheduled", "submitting", "running", "unresolved"])
def test_a_lineage_must_come_to_a_verdict(
    executions: list[Execution], lineages: list[Lineage], state: str
) -> None:
    """Every state but the final ones and `held` is one that somebody still has to leave."""
    executions.append(run("stuck"))
    lineages.append(lineage("stuck", state))
    assert laws(executions, lineages) == {Law.UNSETTLED}


def test_a_strangers_completion_is_no_recovery(executions: list[Execution], lineages: list[Lineage]) -> None:
    """A lineage that adopted an ordinary run is found out by who the run's parent is."""
    executions.append(run("fooled"))
    lineages.append(lineage("fooled", "recovered", "stranger", reason="completed"))
    found = judge(executions, lineages, max_attempts=MAX_ATTEMPTS)
    assert {each.law for each in found} == {Law.STRANGER}
    assert "has the parent None" in found[0].words


@pytest.mark.parametrize(
    "wrong",
    [
        lineage("good", "exhausted", "good-1", "good-2", reason="attempts_used_up"),
        lineage("good", "rejected", "good-1", "good-2", reason="not_found"),
        lineage("good", "cancelled", "good-1", "good-2"),
    ],
)
def test_a_chain_that_completed_has_recovered(
    executions: list[Execution], lineages: list[Lineage], wrong: Lineage
) -> None:
    """Any other verdict about it is untrue."""
    assert laws(executions, [wrong, lineages[1]]) == {Law.UNTRUE}


def test_a_chain_that_failed_has_not_recovered(executions: list[Execution], lineages: list[Lineage]) -> None:
    """Whatever the record says."""
    wrong = lineage("bad", "recovered", "bad-1", "bad-2", reason="completed")
    assert laws(executions, [lineages[0], wrong]) == {Law.UNTRUE}


def test_giving_up_with_attempts_left_is_untrue(executions: list[Execution], lineages: list[Lineage]) -> None:
    """`attempts_used_up` is checked against the count."""
    given_up = run("given-up")
    executions += [given_up, run("given-up-1", parent=given_up)]
    lineages.append(lineage("given-up", "exhausted", "given-up-1", reason="attempts_used_up"))
    assert laws(executions, lineages) == {Law.UNTRUE}


def test_a_clone_that_no_record_names_is_a_wrong_count(
    executions: list[Execution], lineages: list[Lineage]
) -> None:
    """The simulator has one more clone than a settled record."""
    lineages[0] = lineage("good", "recovered", "good-1", reason="completed")
    assert laws(executions, lineages) == {Law.COUNT}


@pytest.mark.parametrize(("made", "expected"), [(0, set()), (1, set()), (2, {Law.COUNT})])
def test_a_held_lineage_may_have_made_one_clone_more(
    executions: list[Execution], lineages: list[Lineage], made: int, expected: set[Law]
) -> None:
    """That is what it is held for; two more would be two calls in doubt."""
    parent = run("held")
    executions.append(parent)
    for number in range(made):
        parent = run(f"held-{number}", "failed" if number + 1 < made else "completed", parent)
        executions.append(parent)
    lineages.append(lineage("held", "held", reason="unclear"))
    assert laws(executions, lineages) == expected


def test_no_execution_is_in_two_lineages(executions: list[Execution], lineages: list[Lineage]) -> None:
    """Whoever has it second is wrong in other ways, too."""
    lineages.append(lineage("good-1", "recovered", "good-2", reason="completed"))
    assert laws(executions, lineages) == {Law.TWO_LINEAGES, Law.SPLIT}


def test_a_clone_is_no_root(executions: list[Execution], lineages: list[Lineage]) -> None:
    """As a root of its own it would have its attempts counted anew."""
    parent = run("parent")
    clone = run("clone", parent=parent)
    executions += [parent, clone, run("clone-1", "completed", clone)]
    lineages += [lineage("parent", "held", reason="unclear"), lineage("clone", "recovered", "clone-1")]
    assert Law.SPLIT in laws(executions, lineages)


def test_more_attempts_than_allowed_are_found_on_both_sides(
    executions: list[Execution], lineages: list[Lineage]
) -> None:
    """In the record and at the simulator."""
    executions.append(run("bad-3", parent=named(executions, "bad-2")))
    assert Law.TOO_MANY in laws(executions, lineages)
    lineages[1] = lineage("bad", "exhausted", "bad-1", "bad-2", "bad-3", reason="attempts_used_up")
    found = judge(executions, lineages, max_attempts=MAX_ATTEMPTS)
    assert [each.law for each in found].count(Law.TOO_MANY) == 2


def test_retrying_what_did_not_fail_is_found(executions: list[Execution], lineages: list[Lineage]) -> None:
    """The simulator counts such calls; the clones may look innocent."""
    assert laws(executions, lineages, retries_of_unfailed=1) == {Law.UNFAILED}


def test_a_lineage_of_nothing_is_untrue(executions: list[Execution], lineages: list[Lineage]) -> None:
    """A root that the simulator does not know."""
    lineages.append(lineage("invented", "held", reason="unclear"))
    assert laws(executions, lineages) == {Law.UNTRUE}
