"""Gradients through EM: how the fitted parameters move when the data move.

θ_T is the result of T steps θ_{t+1} = F(θ_t, X), and a loss of θ_T has the cotangent L_θ.

``one_step``
    ∂_X F(θ_{T-1}, X)ᵀ L_θ: the last step alone (Bolte, Pauwels, Vaiter 2023). Exact for a single
    step from a warm start; otherwise as good as EM contracts.
"""

from .step import em_step_vjp


def one_step_vjp(problem, previous, cotangent):
    """Gradients with respect to the data and the sample weights of one step.

    Parameters
    ----------
    problem : EMProblem
    previous : MixtureParameters
        θ_{T-1}.
    cotangent : MixtureParameters
        L_θ, symmetric.

    Returns
    -------
    X_bar : ndarray of shape (n_samples, n_features), float64
    weight_bar : ndarray of shape (n_samples,), float64
    """
    return em_step_vjp(problem, previous, cotangent)
