"""The truth, slowly: Gaussian mixtures and their EM step by the textbook, in loops and einsums.

Log densities come from `scipy.stats.multivariate_normal`. Everything else works in the floating
type of the data, so that `np.longdouble` gives references for tests of accuracy. Of the package
only `MixtureParameters` is known here, the structure that values are handed around in.
"""

from copy import copy
from dataclasses import replace

import numpy as np
from scipy.stats import multivariate_normal

from skgmmot.parameters import MixtureParameters

LONG = np.longdouble
EPS = np.finfo(np.float64).eps
LONG_IS_LONGER = np.finfo(LONG).eps < EPS / 100


# Mixtures and samples to try


def random_covariances(rng, n, d):
    """Covariance matrices with eigenvalues between 1/2 and 2."""
    rotations = np.linalg.qr(rng.normal(size=(n, d, d)))[0]
    eigenvalues = rng.uniform(0.5, 2.0, size=(n, 1, d))
    matrices = (rotations * eigenvalues) @ rotations.swapaxes(1, 2)
    return (matrices + matrices.swapaxes(1, 2)) / 2


def random_spd(rng, n, d):
    """Positive definite matrices of any condition."""
    roots = rng.normal(size=(n, d, 2 * d))
    return roots @ roots.swapaxes(1, 2) / d


def random_mixture(rng, n_components, d, covariance_type, *, spread=2.0):
    """A mixture of components of about unit size, ``spread`` apart."""
    covariances = {
        "full": lambda: random_covariances(rng, n_components, d),
        "tied": lambda: random_covariances(rng, 1, d)[0],
        "diag": lambda: rng.uniform(0.5, 2.0, size=(n_components, d)),
        "spherical": lambda: rng.uniform(0.5, 2.0, size=n_components),
    }[covariance_type]()
    weights = rng.dirichlet(np.full(n_components, 5.0))
    means = spread * rng.normal(size=(n_components, d))
    return MixtureParameters(weights, means, covariances, covariance_type)


def moved(theta, scale, offset):
    """The mixture of ``scale * x + offset``."""
    return MixtureParameters(
        theta.weights,
        theta.means * scale + offset,
        theta.covariances * scale**2,
        theta.covariance_type,
    )


def sample(rng, theta, n):
    """Samples of a mixture, as many of each component as its weight says, at random."""
    K, d = theta.means.shape
    labels = rng.choice(K, size=n, p=theta.weights)
    roots = np.linalg.cholesky(matrices(theta))
    return np.array([theta.means[k] + roots[k] @ rng.normal(size=d) for k in labels])


def random_cotangent(rng, theta):
    """A random cotangent with symmetric covariances."""
    weights, means, covariances = (rng.normal(size=part.shape) for part in theta)
    if theta.covariance_type in ("full", "tied"):
        covariances = covariances + covariances.swapaxes(-1, -2)
    return MixtureParameters(weights, means, covariances, theta.covariance_type)


def inner_product(cotangent, tangent):
    """⟨cotangent, tangent⟩, over all entries of weights, means and covariances."""
    return sum(float((a * b).sum()) for a, b in zip(cotangent, tangent, strict=True))


def in_way(em_map, way):
    """An `EMMap` whose data claim such an extent that it takes this way, of the two.

    "matrix": logits about a common point; "centered": about the means.
    """
    extent = {"matrix": 0.0, "centered": 1e10}[way]
    data, summary = copy(em_map.data), em_map.data.summary
    center = summary.center
    data.summary = replace(summary, lowest=center - extent, highest=center + extent)
    return replace(em_map, data=data)


# Densities


def matrices(theta):
    """The covariance matrix of every component."""
    K, d = theta.means.shape
    covariances = []
    for k in range(K):
        if theta.covariance_type == "full":
            covariances.append(theta.covariances[k])
        elif theta.covariance_type == "tied":
            covariances.append(theta.covariances)
        elif theta.covariance_type == "diag":
            covariances.append(np.diag(theta.covariances[k]))
        else:
            covariances.append(theta.covariances[k] * np.eye(d))
    return np.array(covariances)


def log_joint(X, theta):
    """log w_k g_k(x_i), (n, K), by SciPy."""
    columns = []
    for w, m, c in zip(theta.weights, theta.means, matrices(theta), strict=True):
        log_weight = np.log(w) if w > 0 else -np.inf
        columns.append(log_weight + np.atleast_1d(multivariate_normal(m, c).logpdf(X)))
    return np.array(columns).T


def long_log_joint(X, theta):
    """`log_joint` in extended precision, for covariances of any scale."""
    X = np.asarray(X, LONG)
    d = X.shape[1]
    columns = []
    for w, m, c in zip(theta.weights, theta.means, matrices(theta), strict=True):
        lower = np.zeros((d, d), LONG)
        for a in range(d):
            for b in range(a + 1):
                s = LONG(c[a, b]) - (lower[a, :b] * lower[b, :b]).sum()
                lower[a, b] = np.sqrt(s) if a == b else s / lower[b, b]
        z = X - m.astype(LONG)
        y = np.zeros_like(z)  # L y = z
        for a in range(d):
            y[:, a] = (z[:, a] - y[:, :a] @ lower[a, :a]) / lower[a, a]
        constant = np.log(LONG(w)) - np.log(np.diag(lower)).sum() - d * np.log(2 * LONG(np.pi)) / 2
        columns.append(constant - (y * y).sum(axis=1) / 2)
    return np.array(columns).T


def log_density(joint):
    """log Σ_k exp joint_ik."""
    top = joint.max(axis=1)
    return top + np.log(np.exp(joint - top[:, None]).sum(axis=1))


def responsibilities(joint):
    """γ_ik of log joint densities, up to a term for each sample."""
    gamma = np.exp(joint - joint.max(axis=1, keepdims=True))
    return gamma / gamma.sum(axis=1, keepdims=True)


# Statistics


def features(Z, covariance_type):
    """φ(z), (n, p), in the order of the table in `skgmmot.families`."""
    d = Z.shape[1]
    columns = [np.ones_like(Z[:, 0])] + [Z[:, a] for a in range(d)]
    if covariance_type == "full":
        columns += [Z[:, a] * Z[:, b] for a in range(d) for b in range(a + 1)]
    elif covariance_type == "diag":
        columns += [Z[:, a] ** 2 for a in range(d)]
    elif covariance_type == "spherical":
        columns += [sum(Z[:, a] ** 2 for a in range(d))]
    return np.stack(columns, axis=1)


def features_jacobian(Z, covariance_type):
    """∂φ_f / ∂z_a, (n, p, d)."""
    n, d = Z.shape
    jacobian = np.zeros((n, features(Z, covariance_type).shape[1], d), Z.dtype)
    for a in range(d):
        jacobian[:, 1 + a, a] = 1
    f = 1 + d
    if covariance_type == "full":
        for a in range(d):
            for b in range(a + 1):
                jacobian[:, f, a] += Z[:, b]
                jacobian[:, f, b] += Z[:, a]
                f += 1
    elif covariance_type == "diag":
        for a in range(d):
            jacobian[:, f + a, a] = 2 * Z[:, a]
    elif covariance_type == "spherical":
        jacobian[:, f] = 2 * Z
    return jacobian


def about(X, reference, n_components):
    """x_i - r_k, (K, n, d), for one common reference point or one for each component."""
    reference = np.broadcast_to(reference, (n_components, X.shape[1]))
    return np.array([X - r for r in reference])


def statistics(X, weight, gamma, reference, covariance_type):
    """S_k = Σ_i s_i γ_ik φ(x_i - r_k), (K, p)."""
    weight = np.ones(len(X)) if weight is None else weight
    return np.array(
        [
            np.einsum("i,i,if->f", weight, gamma[:, k], features(Z, covariance_type))
            for k, Z in enumerate(about(X, reference, gamma.shape[1]))
        ]
    )


# The M-step and the whole step


def random_statistics(rng, kind, reference, *, n, d, K, quadratic_of_tied=False, lost=None):
    """Samples, weights, responsibilities, and their statistics."""
    X = rng.normal(size=(n, d)) + 3 * rng.normal(size=d)
    weight = rng.uniform(0.1, 2.0, size=n)
    gamma = rng.dirichlet(np.ones(K), size=n)
    if lost is not None:
        gamma[:, lost] = 0.0
        gamma /= gamma.sum(axis=1, keepdims=True)
    feature_type = "full" if kind == "tied" and quadratic_of_tied else kind
    sums = statistics(X, weight, gamma, reference, feature_type)
    return X, weight, gamma, sums


def maximize(X, weight, gamma, previous, *, reg_covar=0.0, fixed_weights=False):
    """M-step from responsibilities; a component without mass keeps its mean and covariance."""
    kind = previous.covariance_type
    K, d = gamma.shape[1], X.shape[1]
    weight = np.ones(len(X)) if weight is None else weight
    s = weight[:, None] * gamma
    mass = s.sum(axis=0)
    means = np.array(previous.means, s.dtype)
    scatter = np.zeros((K, d, d), s.dtype)
    for k in range(K):
        if mass[k] > 0:
            # about a sample: rounding is then that of the cluster, not of where it lies
            origin = X[s[:, k].argmax()]
            means[k] = origin + np.einsum("i,ia->a", s[:, k], X - origin) / mass[k]
            Z = (X - origin) - (means[k] - origin)
            scatter[k] = np.einsum("i,ia,ib->ab", s[:, k], Z, Z)
    if kind == "tied":
        covariances = scatter.sum(axis=0) / mass.sum() + reg_covar * np.eye(d)
    else:
        covariances = np.array(previous.covariances, s.dtype)
        for k in range(K):
            if mass[k] > 0:
                matrix = scatter[k] / mass[k] + reg_covar * np.eye(d)
                covariances[k] = {
                    "full": matrix,
                    "diag": np.diag(matrix),
                    "spherical": np.trace(matrix) / d,
                }[kind]
    weights = previous.weights if fixed_weights else mass / mass.sum()
    return MixtureParameters(weights, means, covariances, kind)


def em_step(X, theta, weight=None, *, reg_covar=0.0, fixed_weights=False, joint_of=log_joint):
    """One EM step and the mean log-likelihood at θ, in the precision of ``joint_of``."""
    joint = joint_of(X, theta)
    X = np.asarray(X, joint.dtype)
    s = np.ones(len(X)) if weight is None else weight
    bound = (s * log_density(joint)).sum() / s.sum()
    gamma = responsibilities(joint)
    updated = maximize(X, weight, gamma, theta, reg_covar=reg_covar, fixed_weights=fixed_weights)
    return updated, float(bound)


def online_em(batches, theta, rates, *, reg_covar=0.0, fixed_weights=False):
    """Online EM that keeps all rows, each with its weight in the running mean; γ_t are ``rates``.

    The start is kept as samples that have its moments: m_k ± √d L_k, at each of the columns.
    """
    K, d = theta.means.shape
    shift = reg_covar * np.eye(d)
    roots = [np.sqrt(d) * np.linalg.cholesky(matrix - shift).T for matrix in matrices(theta)]
    pairs = zip(theta.means, roots, strict=True)
    rows = np.concatenate([np.concatenate([m + root, m - root]) for m, root in pairs])
    gamma = np.repeat(np.eye(K), 2 * d, axis=0)
    weight = np.repeat(theta.weights / (2 * d), 2 * d)
    for (X, own), rate in zip(batches, rates, strict=True):
        own = np.ones(len(X)) if own is None else own
        rows = np.concatenate([rows, X])
        gamma = np.concatenate([gamma, responsibilities(log_joint(X, theta))])
        weight = np.concatenate([(1 - rate) * weight, rate * own / own.sum()])
        theta = maximize(
            rows, weight, gamma, theta, reg_covar=reg_covar, fixed_weights=fixed_weights
        )
    return theta


def scaled_change(new, old):
    """max_k |Δw_k|, √(Δmᵀ Σ⁻¹ Δm) and √tr(Σ⁻¹ ΔΣ Σ⁻¹ ΔΣ), Σ the old covariance."""
    changes = list(np.abs(new.weights - old.weights))
    for k, (sigma, sigma_new) in enumerate(zip(matrices(old), matrices(new), strict=True)):
        step = new.means[k] - old.means[k]
        changes.append(np.sqrt(step @ np.linalg.solve(sigma, step)))
        relative = np.linalg.solve(sigma, sigma_new - sigma)
        changes.append(np.sqrt(np.trace(relative @ relative)))
    return float(np.max(changes))  # NaN if any is


def relative_error(actual, truth):
    """The largest error, in units of the largest entry."""
    return np.abs(actual - truth).max() / np.abs(truth).max()


class Errors(dict):
    """Largest errors of weights, means and covariances; compare all of them with one number."""

    def __lt__(self, bound):
        return all(error < bound for error in self.values())


def errors(actual, expected):
    """Errors in units that mean something for every component, however small it is.

    Weights relative to themselves, means in standard deviations of each feature, entries of
    covariances relative to the product of the two standard deviations.
    """
    truth = matrices(expected)
    deviation = np.sqrt(np.einsum("kaa->ka", truth))
    scales = {
        "weights": np.maximum(expected.weights, 1e-300),
        "means": deviation,
        "covariances": deviation[:, :, None] * deviation[:, None, :],
    }
    differences = {
        "weights": actual.weights - expected.weights,
        "means": actual.means - expected.means,
        "covariances": matrices(actual) - truth,
    }
    return Errors(
        (name, float(np.max(np.abs(differences[name]) / scale))) for name, scale in scales.items()
    )


# For automatic differentiation, in PyTorch


def torch_statistics(X, weight, coefficients, reference, covariance_type):
    """S of tensors X (n, d) and weights (n,), for log joint densities ⟨η_k, φ(x - r_k)⟩."""
    import torch

    K, d = len(coefficients), X.shape[1]
    reference = torch.as_tensor(np.broadcast_to(reference, (K, d)).copy())
    phi = []
    for k in range(K):
        Z = X - reference[k]
        columns = [torch.ones_like(Z[:, 0]), *Z.T]
        if covariance_type == "full":
            columns += [Z[:, a] * Z[:, b] for a in range(d) for b in range(a + 1)]
        elif covariance_type == "diag":
            columns += [*(Z**2).T]
        elif covariance_type == "spherical":
            columns += [(Z**2).sum(1)]
        phi.append(torch.stack(columns, dim=1))
    phi = torch.stack(phi)
    gamma = torch.einsum("kif,kf->ik", phi, torch.as_tensor(coefficients)).softmax(dim=1)
    return torch.einsum("i,ik,kif->kf", weight, gamma, phi)


def torch_maximize(X, weight, gamma, theta, *, reg_covar=0.0, fixed_weights=False):
    """`maximize` of tensors X (n, d), weight (n,) and gamma (n, K), as three tensors."""
    import torch

    kind, d = theta.covariance_type, X.shape[1]
    eye = torch.eye(d, dtype=torch.float64)
    s = weight[:, None] * gamma
    mass = s.sum(0)
    weights = torch.as_tensor(theta.weights) if fixed_weights else mass / mass.sum()
    means, scatter = [], []
    for k in range(len(mass)):
        origin = torch.as_tensor(theta.means[k])
        shift = s[:, k] @ (X - origin) / mass[k]
        Z = X - origin - shift
        means.append(origin + shift)
        scatter.append(torch.einsum("i,ia,ib->ab", s[:, k], Z, Z))
    means, scatter = torch.stack(means), torch.stack(scatter)
    if kind == "tied":
        return weights, means, scatter.sum(0) / mass.sum() + reg_covar * eye
    covariances = scatter / mass[:, None, None] + reg_covar * eye
    if kind == "diag":
        covariances = torch.einsum("kaa->ka", covariances)
    elif kind == "spherical":
        covariances = torch.einsum("kaa->k", covariances) / d
    return weights, means, covariances


def torch_em_step(X, weight, theta, *, reg_covar=0.0, fixed_weights=False):
    """One EM step of tensors X (n, d) and weight (n,), θ held constant, as three tensors."""
    import torch

    joint = []
    for w, m, c in zip(theta.weights, theta.means, matrices(theta), strict=True):
        normal = torch.distributions.MultivariateNormal(torch.as_tensor(m), torch.as_tensor(c))
        joint.append(np.log(w) + normal.log_prob(X))
    gamma = torch.stack(joint, dim=1).softmax(dim=1)
    return torch_maximize(X, weight, gamma, theta, reg_covar=reg_covar, fixed_weights=fixed_weights)


def torch_gradients(X, weight, theta, cotangent, **options):
    """Gradients of ⟨cotangent, EM(θ, X)⟩ with respect to X and the sample weights."""
    import torch

    X = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    weight = np.ones(len(X)) if weight is None else weight
    weight = torch.tensor(weight, dtype=torch.float64, requires_grad=True)
    parts = torch_em_step(X, weight, theta, **options)
    loss = sum((torch.as_tensor(c) * p).sum() for c, p in zip(cotangent, parts, strict=True))
    loss.backward()
    return X.grad.numpy(), weight.grad.numpy()


def torch_run(X, weight, parts, kind, n_steps, *, reg_covar=0.0, fixed_weights=False):
    """EM steps of tensors, θ_0 = ``parts`` included, as three tensors: for unrolled gradients."""
    import torch

    weights, means, covariances = parts
    eye = torch.eye(X.shape[1], dtype=X.dtype)
    for _ in range(n_steps):
        sigma = covariances  # that of a tied mixture serves all components as it is
        if kind == "diag":
            sigma = torch.diag_embed(covariances)
        elif kind == "spherical":
            sigma = covariances[:, None, None] * eye
        normal = torch.distributions.MultivariateNormal(
            means, scale_tril=torch.linalg.cholesky(sigma), validate_args=False
        )
        joint = weights.log() + normal.log_prob(X[:, None])
        gamma = joint.softmax(dim=1) * weight[:, None]
        mass = gamma.sum(dim=0)
        means = gamma.T @ X / mass[:, None]
        Z = X[:, None] - means
        scatter = torch.einsum("nk,nka,nkb->kab", gamma, Z, Z)
        weights = weights if fixed_weights else mass / mass.sum()
        if kind == "tied":
            covariances = scatter.sum(dim=0) / mass.sum() + reg_covar * eye
            continue
        covariances = scatter / mass[:, None, None] + reg_covar * eye
        if kind != "full":
            covariances = torch.diagonal(covariances, dim1=1, dim2=2)
        if kind == "spherical":
            covariances = covariances.mean(dim=1)
    return weights, means, covariances
