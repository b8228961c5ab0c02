"""What tests of programs that start processes need, for everyone's tests.

Installing hornpipe makes pytest load :mod:`hornpipe.testing.plugin`. It only offers fixtures; nothing happens to a
test that does not ask:

    pytestmark = pytest.mark.usefixtures("no_leaks")

The parts, from the bottom:

- ``patience``: :func:`~hornpipe.testing.patience.wait_until`, a bounded wait for a fact
- ``between_lines``: a signal's handler before each line in turn
- ``descriptors``, ``processes``, ``sysv_objects``, ``surroundings``: looking at what this process has
- ``mark``: a mark that every descendant carries, however well it hides
- ``leaks``: :func:`~hornpipe.testing.leaks.leak_check`, the comparison of before and after
- ``mechanisms``: forcing the portable paths
- ``stubborn``: ready-made ill-behaved programs
- ``hostile``: ready-made ill-behaved clients and servers
- ``plugin``: the fixtures

Nothing here stands on the rest of hornpipe: a leak detector built from the code it judges would share its blind spots.
"""
