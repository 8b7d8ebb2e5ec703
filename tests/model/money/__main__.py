"""
Play many seeds against a stub Stripe that keeps an account of the money that really moves.

``python -m tests.model.money [--seeds 200] [--first 0]`` prints one line; a seed that broke a promise
prints its program before. ``--shrink`` makes such a program as short as it can be first.
"""

from __future__ import annotations

import argparse
import sys

from tests.model.money.many import many, summed, told


def main(arguments: list[str]) -> int:
    """Play the seeds that were asked for, and print what became of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.money", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many (200)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--jobs", type=int, default=2, help="how many processes play (2)")
    parser.add_argument("--shrink", action="store_true", help="shorten what broke a promise")
    asked = parser.parse_args(arguments)
    verdicts = []
    seeds = range(asked.first, asked.first + asked.seeds)
    for verdict in many(seeds, asked.jobs, shrink=asked.shrink):
        verdicts.append(verdict)
        if verdict.broken:
            print(told(verdict), flush=True)
    print(summed(verdicts))
    return 3 if any(verdict.broken for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
