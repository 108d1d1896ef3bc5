"""Costs and maps between many Gaussians of few features.

Whatever the number of rows and columns, an entry is computed by the same instructions: the costs
between two mixtures are the same bits alone and among those of thousands.
"""

import math

import numpy as np

from .compilation import inner, kernel

# Of Newton's method for nuclear norms; after a step this small, as a part, the next is rounding.
NEWTON_STEPS, SMALL_STEP = 6, 1e-8

# Of Jacobi's rotations, of which about six sweeps do; columns are orthogonal to this, and squared
# lengths of columns below the last are left to others, since their products might underflow.
SWEEPS, ORTHOGONAL, SMALLEST_COLUMN = 40, 4 * 2.0**-52, 1e-280


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


@inner
def _orthogonalize(columns, turned):
    """Make columns orthogonal, by Jacobi's rotations; whether that was reached.

    Both arrays have a column in each row. Those of M become those of M V = U S, of the singular
    value decomposition M = U S Vᵀ, and those of the identity, if given, V. That no product of two
    of them is more than eps of their lengths makes U orthogonal to rounding, whatever the S.
    """
    d = columns.shape[0]
    for _ in range(SWEEPS):
        is_done = True
        for p in range(d):
            for q in range(p + 1, d):
                left, right, product = 0.0, 0.0, 0.0
                for a in range(d):
                    left += columns[p, a] * columns[p, a]
                    right += columns[q, a] * columns[q, a]
                    product += columns[p, a] * columns[q, a]
                if not abs(product) > ORTHOGONAL * math.sqrt(left) * math.sqrt(right):
                    continue
                is_done = False
                zeta = (right - left) / (2.0 * product)
                tangent = 1.0 / (abs(zeta) + math.sqrt(1.0 + zeta * zeta))
                tangent = -tangent if zeta < 0.0 else tangent
                cosine = 1.0 / math.sqrt(1.0 + tangent * tangent)
                sine = cosine * tangent
                for a in range(d):
                    x, y = columns[p, a], columns[q, a]
                    columns[p, a], columns[q, a] = cosine * x - sine * y, sine * x + cosine * y
                for a in range(turned.shape[1]):
                    x, y = turned[p, a], turned[q, a]
                    turned[p, a], turned[q, a] = cosine * x - sine * y, sine * x + cosine * y
        if is_done:
            return True
    return False


@kernel
def nuclear_norms(factors, target_factors, norms):
    """Fill in ‖M‖_* (n, m), M = Lᵀ L', of few features, by rotations: NaN where they do not end."""
    d = factors.shape[1]
    columns, nothing = np.empty((d, d)), np.empty((d, 0))
    for i in range(len(factors)):
        for j in range(len(target_factors)):
            columns[:] = 0.0
            for c in range(d):
                for b in range(d):
                    x = target_factors[j, c, b]
                    for a in range(d):
                        columns[b, a] += x * factors[i, c, a]
            norm = 0.0 if _orthogonalize(columns, nothing) else math.nan
            for b in range(d):
                square = 0.0
                for a in range(d):
                    square += columns[b, a] * columns[b, a]
                norm += math.sqrt(square)
            norms[i, j] = norm


@inner
def _add_map(mass, lower, left, target_lower, right, X, Z, total):
    """Add the symmetric part of P L' R Qᵀ L⁻¹, of columns of rotations Q (left) and R."""
    d = len(lower)
    for c in range(d):
        for a in range(d):
            x = 0.0
            for b in range(a + 1):
                x += target_lower[a, b] * right[c, b]
            Z[a, c] = x
        for a in range(d - 1, -1, -1):  # row c of X L = Qᵀ
            x = left[c, a]
            for b in range(a + 1, d):
                x -= X[c, b] * lower[b, a]
            X[c, a] = x / lower[a, a]
    for a in range(d):
        for b in range(a + 1):
            x = 0.0
            for c in range(d):
                x += Z[a, c] * X[c, b] + Z[b, c] * X[c, a]
            x *= 0.5 * mass
            total[a, b] += x
            if b < a:
                total[b, a] += x


@kernel
def add_maps(plan, factors, scales, target_factors, target_scales, sums, target_sums):
    """Add Σ_l P_kl T_kl to (n, d, d) and Σ_k P_kl T'_lk to (m, d, d), T' the maps the other way.

    T = L' V Uᵀ L⁻¹ of Lᵀ L' = U S Vᵀ, made symmetric, with Cholesky factors: regular lower
    triangles L = scale · factor. Returns whether all maps were found, to rounding.
    """
    d = factors.shape[1]
    U, V, X, Z = np.empty((d, d)), np.empty((d, d)), np.empty((d, d)), np.empty((d, d))
    for k in range(len(factors)):
        lower = factors[k]
        for j in range(len(target_factors)):
            mass = plan[k, j]
            if mass == 0.0:
                continue
            target_lower = target_factors[j]
            V[:] = 0.0
            for a in range(d):
                V[a, a] = 1.0
                for b in range(d):
                    x = 0.0
                    for c in range(max(a, b), d):
                        x += lower[c, a] * target_lower[c, b]
                    U[b, a] = x
            if not _orthogonalize(U, V):
                return False
            for b in range(d):
                x = 0.0
                for a in range(d):
                    x += U[b, a] * U[b, a]
                if not x > SMALLEST_COLUMN:
                    return False
                x = 1.0 / math.sqrt(x)
                for a in range(d):
                    U[b, a] *= x
            ratio = target_scales[j] / scales[k]
            _add_map(mass * ratio, lower, U, target_lower, V, X, Z, sums[k])
            _add_map(mass / ratio, target_lower, V, lower, U, X, Z, target_sums[j])
    return True
