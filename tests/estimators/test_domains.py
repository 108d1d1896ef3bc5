"""Labels of two domains: which is the source, and what is refused."""

import numpy as np
import pytest

from skgmmot.estimators.domains import rows_of_source, two_domains

X = np.zeros((4, 2))


@pytest.mark.parametrize(
    "labels, expected",
    [
        ([1, -1, 1, -1], (1, -1)),
        ([-2, 1, 1, 1], (1, -2)),
        ([0, -1, 0, 0], (0, -1)),
        ([0, 1, 1, 0], (0, 1)),
        ([3, 2, 2, 2], (2, 3)),
        ([-1, -2, -1, -1], (-2, -1)),
        (["b", "a", "b", "b"], ("a", "b")),
        ([True, False, True, True], (False, True)),
        ([0.5, -0.5, 0.5, 0.5], (0.5, -0.5)),
    ],
)
def test_the_source_is_told_from_the_target(labels, expected):
    for sample_domain, y in ((labels, None), (None, labels), (labels, [7, 7, 7, 7])):
        domains, is_source = two_domains(sample_domain, y, X)
        assert domains == expected
        assert is_source.tolist() == [label == expected[0] for label in labels]


@pytest.mark.parametrize(
    "sample_domain, y, words",
    [
        (None, None, "neither sample_domain nor y"),
        ([1, 1, 1, 1], None, "sample_domain must have two distinct labels.*1 class: 1"),
        ([1, 1, 1, 1], None, r"cv=StratifiedKFold\(\).split\(X, sample_domain\)"),
        (None, [0, 1, 2, 2], "y must have two distinct labels.*3 classes"),
        (None, [0, 1, np.nan, 1], "NaN"),
        ([1, -1], None, "inconsistent"),
    ],
)
def test_what_is_not_two_domains_is_refused(sample_domain, y, words):
    with pytest.raises(ValueError, match=words):
        two_domains(sample_domain, y, X)


def test_labels_of_the_fit_are_known_again():
    assert rows_of_source([1, 1, 1, 1], X, (1, -1)).all()
    assert rows_of_source(["b", "a", "b", "b"], X, ("a", "b")).tolist() == [0, 1, 0, 0]
    assert rows_of_source("a", X, ("a", "b")).all()
    with pytest.raises(ValueError, match="-2 is not one of the fit"):
        rows_of_source([1, -2, 1, 1], X, (1, -1))
