"""Sums of what chunks answer, in an order that does not depend on who answers first."""

from functools import reduce
from operator import add

FAN = 8  # terms that are added up at a time


def added(terms):
    """The sum of those that are not None, in order; None if there are no others."""
    terms = [term for term in terms if term is not None]
    return reduce(add, terms) if terms else None


def tree_sum(terms, add_up):
    """The sum of terms, ``FAN`` of them at a time, in a tree that their number alone determines.

    ``add_up`` takes a list. No more than so many sums of each level wait at a time.
    """
    levels = []
    for term in terms:
        for level in levels:
            level.append(term)
            if len(level) < FAN:
                break
            term = add_up(level)
            level.clear()
        else:
            levels.append([term])
    rest = []
    for level in levels:
        if level or rest:
            rest = [add_up([*level, *rest])]
    return rest[0]
