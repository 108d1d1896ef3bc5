"""Costs between many Gaussians: squared distances of rows, and nuclear norms of small products.

Whatever the number of rows and columns, an entry is computed by the same instructions: the costs
between two mixtures are the same bits alone and among those of thousands.
"""

import math

import numpy as np

from .compilation import inner, kernel

# Of Newton's method for nuclear norms; after a step this small, as a part, the next is rounding.
NEWTON_STEPS, SMALL_STEP = 6, 1e-8


@inner
def _square(point, other):
    total = 0.0
    for a in range(len(point)):
        difference = point[a] - other[a]
        total += difference * difference
    return total


@kernel
def squared_distances(points, others, distances):
    """Fill in ‖x_i − y_j‖² (n, m) between the rows of (n, p) and (m, p)."""
    for i in range(len(points)):
        for j in range(len(others)):
            distances[i, j] = _square(points[i], others[j])


@kernel
def small_nuclear_norms(factors, determinants, target_factors, target_determinants, norms):
    """Fill in ‖M‖_* (n, m), M = Lᵀ L', d = 2 and 3, from symmetric functions of singular values s.

    With N = Σ s, all terms below are non-negative and nothing cancels:

    d = 2:  N² = ‖M‖² + 2 |det M|
    d = 3:  N² = ‖M‖² + 2 Q,  Q = s₁s₂ + s₁s₃ + s₂s₃,  Q² = Σ (2 × 2 minors)² + 2 |det M| N

    For d = 3 the two equations, together N = F(N), are solved by Newton's method. The slope of F
    is F' = |det M| / (Q N) ≤ 1/9, and N + (F − N) / (1 − F') has the square of the error of N: four
    steps do, and F once more shrinks what is left of their rounding. |det M| is given as |det L|
    and |det L'|: their product keeps its relative accuracy where M is nearly singular.
    """
    d = factors.shape[1]
    M = np.empty((d, d))
    for i in range(len(factors)):
        for j in range(len(target_factors)):
            squares = 0.0
            for a in range(d):
                for b in range(d):
                    x = 0.0
                    for c in range(d):
                        x += factors[i, c, a] * target_factors[j, c, b]
                    M[a, b] = x
                    squares += x * x
            determinant = determinants[i] * target_determinants[j]
            if d == 2:
                norms[i, j] = math.sqrt(squares + 2.0 * determinant)
                continue
            minors = 0.0
            for a in range(3):
                r, s = (a + 1) % 3, (a + 2) % 3
                for b in range(3):
                    p, q = (b + 1) % 3, (b + 2) % 3
                    minor = M[r, p] * M[s, q] - M[r, q] * M[s, p]
                    minors += minor * minor
            norm = math.sqrt(squares)
            for _ in range(NEWTON_STEPS):
                Q = math.sqrt(minors + 2.0 * determinant * norm)
                F = math.sqrt(squares + 2.0 * Q)
                if not Q > 0.0:  # of rank one: F is constant
                    norm = F
                    break
                step = (F - norm) / (1.0 - determinant / (Q * F))
                norm += step
                if not abs(step) > SMALL_STEP * norm:
                    break
            norm = math.sqrt(squares + 2.0 * math.sqrt(minors + 2.0 * determinant * norm))
            norms[i, j] = norm
