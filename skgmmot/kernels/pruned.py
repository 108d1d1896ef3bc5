"""Which components a block of samples needs, and what kernels do with lists of them.

The rows of a block lie in a box {c + z : |z_a| ≤ h_a}. A logit l_k(x) = ⟨η_k, φ(x)⟩ is a quadratic
function with the precision P_k, so in the box, with the gradient g_k = ∇l_k(c), ρ_k² =
Σ_ab |P_kab| h_a h_b ≥ zᵀP_k z, and any component j,

    l_k(x) ≥ l_k(c) - Σ_a |g_ka| h_a - ½ ρ_k²,
    l_k(x) - l_j(x) ≤ D_k = l_k(c) - l_j(c) + Σ_a |g_ka - g_ja| h_a + ½ ρ_j².

j is the component whose lower bound is the greatest. γ_k(x) ≤ e^{D_k}, and component k is left out
of a block where this is below ε / K, and the mass that it may lose there, W e^{D_k} with W the
weight of the block, is a small part of ε N_k. Its covariance may lose this mass times the squared
distance of the block's samples,

    ‖U_kᵀ (x - m_k)‖² = 2 (b_k - l_k(x)),    b_k = max_x l_k(x) = η_k0 + ½ ‖U_k⁻¹ η_k1‖²,

which is therefore a factor of it. A certificate adds up what was left out.

Kernels take ``lists``: None where blocks need all components, for which they are compiled apart, or
the order of the rows, where the list of each block starts, the lists, their cuts and room for
flags.

Of the components that are listed, those are left out in a second step whose logits, once they are
known, say the same: exponentials and sums take most of the time. The greatest l_k(x_i) - max_j
l_j(x_i) of the block takes the place of D_k.
"""

import math

import numpy as np

from .blocks import BLOCK, PAIR, TILE, aligned, padded
from .compilation import inner, kernel
from .elementary import exp, log

SHARE = 1.0 / 64.0  # of ε N_k, that a single block may lose
_NEGLIGIBLE = 60.0  # this far below it, e^D is nothing


@inner
def range_of(start, starts):
    """Where the list of the block at ``start`` stands."""
    block = start // BLOCK
    return slice(starts[block], starts[block + 1])


@inner
def gathered(coefficients, members, room):
    """The members' coefficients, padded to whole pairs with zeros."""
    size = padded(members.size, PAIR)
    for j in range(members.size):
        room[j] = coefficients[members[j]]
    room[members.size : size] = 0.0
    return room[:size]


@inner
def narrowed(members, cuts, logits, kept, certificate, chosen):
    """Leave out members all of whose logits are further below the greatest than their cuts.

    The logits of the others are moved together, and their numbers are returned, in ``chosen``.
    ``kept`` is set for them, and e^{greatest - cut} added to the certificate of the rest.
    """
    buffer = aligned(3)
    top, higher, below = buffer[0], buffer[1], buffer[2]
    top[:] = logits[0]
    whole = members.size - members.size % 4
    for j in range(0, whole, 4):
        x, y, z, w = logits[j], logits[j + 1], logits[j + 2], logits[j + 3]
        for i in range(BLOCK):
            higher[i] = max(max(max(x[i], y[i]), max(z[i], w[i])), top[i])
        top, higher = higher, top
    for j in range(whole, members.size):
        for i in range(BLOCK):
            higher[i] = max(logits[j, i], top[i])
        top, higher = higher, top
    n = 0
    for j in range(members.size):
        own, cut, above = logits[j], cuts[j], 0.0
        for i in range(BLOCK):
            above += 0.0 if own[i] - top[i] < cut else 1.0
        if above > 0.0:
            if n < j:
                logits[n] = own
            chosen[n] = members[j]
            kept[j] = True
            n += 1
            continue
        half = BLOCK // 2
        for i in range(half):
            below[i] = max(own[i] - top[i], own[i + half] - top[i + half])
        while half > 1:
            half //= 2
            for i in range(half):
                below[i] = max(below[i], below[i + half])
        certificate[members[j]] += exp(below[0] - cut)
    return chosen[:n]


@inner
def scatter(part, members, sums):
    """Add the members' sums to those of all components."""
    for j in range(members.size):
        for f in range(sums.shape[1]):
            sums[members[j], f] += part[j, f]


@kernel
def quadratics(coefficients, pairs, precisions, peaks, shares):
    """Fill in P_k, as (d, d, K), b_k = max_x l_k(x) and b_k - log det U_k, from coefficients.

    The last is log w_k up to a common constant, unless the logits are not those of a density. A
    component without a maximum has none for a peak either: infinity.
    """
    n_components, size = coefficients.shape
    d = precisions.shape[0]
    precisions[:] = 0.0
    lower, y = np.empty((d, d)), np.empty(d)
    for k in range(n_components):
        for f in range(1 + d, size):
            a, b, eta = pairs[0, f] - 1, pairs[1, f] - 1, coefficients[k, f]
            if a == d:  # ‖z‖²
                for c in range(d):
                    precisions[c, c, k] -= 2.0 * eta
            else:
                precisions[a, b, k] -= eta
                precisions[b, a, k] -= eta
        square, log_det = 0.0, 0.0
        for a in range(d):
            y[a] = coefficients[k, 1 + a]
            for b in range(a + 1):
                s = precisions[a, b, k]
                for c in range(b):
                    s -= lower[a, c] * lower[b, c]
                if a == b:
                    lower[a, a] = math.sqrt(s) if s > 0.0 else 0.0
                else:
                    lower[a, b] = s / lower[b, b]
                    y[a] -= lower[a, b] * y[b]
            y[a] /= lower[a, a]
            square += y[a] * y[a]
            log_det += math.log(lower[a, a])
        peaks[k] = coefficients[k, 0] + 0.5 * square
        if not peaks[k] < math.inf:
            peaks[k] = math.inf
        shares[k] = peaks[k] - log_det


@inner
def _expand(constant, linear, precisions, z, logit, gradient):
    """l_k and g_k at the point z, of the logits whose l_k(0), ∇l_k(0) and P_k are given."""
    d, n = gradient.shape
    for a in range(d):
        g, own, p, x = gradient[a], linear[a], precisions[a, 0], z[0]
        for k in range(n):
            g[k] = own[k] - p[k] * x
        for b in range(1, d):
            p, x = precisions[a, b], z[b]
            for k in range(n):
                g[k] -= p[k] * x
    logit[:] = constant
    for a in range(d):
        x = 0.5 * z[a]
        for k in range(n):
            logit[k] += (linear[a, k] + gradient[a, k]) * x


@inner
def _half_squares(precisions, h, squares):
    """½ ρ_k²."""
    d, n = precisions.shape[1:]
    squares[:] = 0.0
    for a in range(d):
        for b in range(a + 1):
            p, area = precisions[a, b], h[a] * h[b] * (0.5 if a == b else 1.0)
            for k in range(n):
                squares[k] += abs(p[k]) * area


@inner
def _lowest(h, logit, gradient, squares, lowest):
    """Fill in the lower bounds, and return the number of the greatest of them."""
    d, n = gradient.shape
    lowest[:] = logit
    for a in range(d):
        g, width = gradient[a], h[a]
        for k in range(n):
            lowest[k] -= abs(g[k]) * width
    best, most = 0, -math.inf
    for k in range(n):
        lowest[k] -= squares[k]
        if lowest[k] > most:
            best, most = k, lowest[k]
    return best


@inner
def _differences(h, logit, gradient, squares, j, differences):
    """D_k."""
    d, n = gradient.shape
    base = logit[j] - squares[j]
    differences[:] = logit
    for a in range(d):
        g, own, width = gradient[a], gradient[a, j], h[a]
        for k in range(n):
            differences[k] += abs(g[k] - own) * width
    for k in range(n):
        differences[k] -= base


@kernel
def needed(
    boxes,
    weights,
    first,
    last,
    reference,
    coefficients,
    precisions,
    peaks,
    accuracy,
    masses,
    certificate,
):
    """Lists of the components that blocks ``first`` to ``last`` need.

    boxes : (blocks, 2, d), centers and half widths; weights : (blocks,)
    coefficients : (1 + d, K), the constant and linear ones; precisions : (d, d, K); peaks : (K,)
    accuracy : ε
    masses : (K,), what N_k is taken for; infinite where no sums are asked for
    certificate : (K,), to which bounds of what is left out are added

    Returns where each list starts, the lists, and the logarithm of γ_k below which each of their
    components may be left out of the block all the same.
    """
    d, n_components = precisions.shape[1:]
    logit, gradient = np.empty(n_components), np.empty((d, n_components))
    squares, lowest = np.empty(n_components), np.empty(n_components)
    differences, c = np.empty(n_components), np.empty(d)
    threshold = math.log(accuracy / n_components)
    log_limits = np.empty(n_components)
    for k in range(n_components):
        log_limits[k] = math.log(SHARE * accuracy * masses[k])
    starts = np.zeros(last - first + 1, np.int64)
    active, cuts = np.empty(4 * n_components, np.int64), np.empty(4 * n_components)
    count = 0
    for block in range(first, last):
        h, log_weight = boxes[block, 1], math.log(weights[block])
        for a in range(d):
            c[a] = boxes[block, 0, a] - reference[a]
        _expand(coefficients[0], coefficients[1:], precisions, c, logit, gradient)
        _half_squares(precisions, h, squares)
        j = _lowest(h, logit, gradient, squares, lowest)
        _differences(h, logit, gradient, squares, j, differences)
        if count + n_components > active.size:
            active = np.concatenate((active, np.empty(active.size, np.int64)))
            cuts = np.concatenate((cuts, np.empty(cuts.size)))
        for k in range(n_components):
            difference, limit = differences[k], log_limits[k] - log_weight
            if difference < threshold and difference < limit - _NEGLIGIBLE:
                continue
            cut = min(threshold, limit - log(max(1.0, 2.0 * (peaks[k] - lowest[k]))))
            if difference < cut:
                certificate[k] += exp(difference - cut)
                continue
            active[count], cuts[count] = k, cut
            count += 1
        starts[block - first + 1] = count
    return starts, active[:count], cuts[:count]


# The order of the rows: halves along the widest feature, down to blocks.


@inner
def _select(keys, index, a, first, last, cut):
    """Exchange rows until those before ``cut`` are in feature a no greater than the others."""
    d = keys.shape[0]
    key = keys[a]
    low, high, state = first, last - 1, 12345
    while low < high:
        x, y, z = key[low], key[high], key[(low + high) // 2]
        if high - low > TILE:  # at random, lest some order of the rows is slow
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF
            x = key[low + state % (high - low)]
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF
            y = key[low + state % (high - low)]
        pivot = max(min(x, y), min(max(x, y), z))
        i, j = low, high
        while i <= j:
            while key[i] < pivot:
                i += 1
            while key[j] > pivot:
                j -= 1
            if i <= j:
                for b in range(d):
                    keys[b, i], keys[b, j] = keys[b, j], keys[b, i]
                index[i], index[j] = index[j], index[i]
                i += 1
                j -= 1
        if cut <= j:
            high = j
        elif cut >= i:
            low = i
        else:
            break


@inner
def _halve(keys, index, first, last, leaf):
    """Exchange rows of a node of the tree so that its halves are nodes; returns where they meet.

    Nodes are whole leaves of ``leaf`` rows, of which the last of all may have fewer.
    """
    cut = first + leaf * (-(-(last - first) // leaf) // 2)
    widest, width = 0, -1.0
    for a in range(keys.shape[0]):
        lowest, highest = keys[a, first], keys[a, first]
        for i in range(first, last):
            lowest = min(lowest, keys[a, i])
            highest = max(highest, keys[a, i])
        if highest - lowest > width:
            widest, width = a, highest - lowest
    _select(keys, index, widest, first, last, cut)
    return cut


@kernel
def halve(keys, index, first, last, leaf):
    """`_halve`, of a node with more than ``leaf`` rows."""
    return _halve(keys, index, first, last, leaf)


@kernel
def arrange(keys, index, first, last, leaf):
    """Bring the rows from ``first`` to ``last`` into the order of the tree.

    keys : (d, n), finite; index : (n,), which are exchanged alike
    """
    stack = np.empty((64, 2), np.int64)
    stack[0, 0], stack[0, 1] = first, last
    depth = 1
    while depth > 0:
        depth -= 1
        low, high = stack[depth, 0], stack[depth, 1]
        if high - low <= leaf:
            continue
        cut = _halve(keys, index, low, high, leaf)
        stack[depth, 0], stack[depth, 1] = low, cut
        stack[depth + 1, 0], stack[depth + 1, 1] = cut, high
        depth += 2


@kernel
def enclose(keys, sample_weight, leaf, boxes, weights):
    """Fill in the boxes of so many rows each, as `needed` takes them, and their weights."""
    d, n_samples = keys.shape
    for box in range(len(boxes)):
        first, last = box * leaf, min((box + 1) * leaf, n_samples)
        for a in range(d):
            lowest, highest = keys[a, first], keys[a, first]
            for i in range(first, last):
                lowest = min(lowest, keys[a, i])
                highest = max(highest, keys[a, i])
            boxes[box, 0, a] = 0.5 * (lowest + highest)
            boxes[box, 1, a] = 0.5 * (highest - lowest)
        weights[box] = last - first
        if sample_weight.size:
            weights[box] = 0.0
            for i in range(first, last):
                weights[box] += sample_weight[i]
