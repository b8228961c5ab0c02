"""How fast hornpipe is, beside its peers and beside a C program that does the same: `python -m benchmarks`.

Absolute figures hold on one machine on one day. Therefore every measurement runs all of its contenders in turn, round
after round, and what counts are ratios within a round.

- `contest`: measurements, contenders, targets, and the rounds; `report` prints what came out.
- `play`: one contender, in a process of its own. `machine`: what the ratios should not depend on, but do.
- `programs`: the C programs of `c/`, and how Perl and bash are asked.
- Every other module is one topic: its measurements, their contenders and their targets.
"""
