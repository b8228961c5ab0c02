"""The pytest plugin: fixtures for tests of programs that start processes.

``no_leaks``
    fails a test that leaves something behind
``without_pidfd``
    runs a test on hornpipe's portable path
``with_and_without_pidfd``
    runs it twice, on each path

pytest imports this module in every run once hornpipe is installed, so everything else is imported on first use.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

_RAISED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the one setting."""
    parser.addini(
        "no_leaks_patience",
        "seconds that no_leaks gives to what is just being tidied up in the background (default 1)",
        default="1",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Remembers for ``no_leaks`` whether the test itself failed."""
    try:
        return (yield)
    except (Exception, pytest.fail.Exception):
        item.stash[_RAISED] = True
        raise


@pytest.fixture
def no_leaks(request: pytest.FixtureRequest) -> Generator[None, None, None]:
    """Fail the test (as an error at its teardown) if it leaves anything behind.

        pytestmark = pytest.mark.usefixtures("no_leaks")

    That is: a child, running or zombie; any other descendant, even one that left its session, closed everything and
    cleared its environment; a descriptor; a System V object; a non-daemon thread; a running interval timer; a blocked
    signal, a changed handler, umask, working directory, environment or limit. What was left is ended or undone, so that
    the next test starts clean.

    Fixtures that a test requests besides are torn down first, so what they close is no leak. A test that failed by
    itself keeps its own message, and what it left is only listed: its traceback still holds its variables.
    """
    from hornpipe.testing.leaks import LeaksFound, LeakWatch

    watch = LeakWatch()
    yield
    leaks = watch.finish(float(request.config.getini("no_leaks_patience")))
    if not leaks:
        return
    message = f"{request.node.name} {LeaksFound(leaks)}"
    if request.node.stash.get(_RAISED, False):
        request.node.add_report_section("teardown", "leaks", message)
    else:
        pytest.fail(message, pytrace=False)


@pytest.fixture
def without_pidfd() -> Generator[None, None, None]:
    """Run the test as if the kernel had no pidfds.

    @pytest.mark.usefixtures("without_pidfd")
    def test_a_child_is_reaped_on_the_portable_path(): ...
    """
    from hornpipe.testing import mechanisms

    with mechanisms.without_pidfd():
        yield


@pytest.fixture(params=["pidfd", "no pidfd"])
def with_and_without_pidfd(request: pytest.FixtureRequest) -> str:
    """Run the test once with pidfds, as far as the kernel has them, and once without; its value says which.

    @pytest.mark.usefixtures("with_and_without_pidfd")
    class TestWaiting: ...
    """
    mechanism: str = request.param
    if mechanism == "no pidfd":
        request.getfixturevalue("without_pidfd")
    return mechanism
