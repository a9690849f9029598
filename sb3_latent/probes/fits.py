"""The probes: small predictors from a representation to one variable."""

import copy
import warnings
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]  # scikit-learn has no types
from sklearn.linear_model import LogisticRegression, Ridge  # type: ignore[import-untyped]  # no types
from sklearn.neural_network import MLPClassifier, MLPRegressor  # type: ignore[import-untyped]  # no types
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]  # no types

Array: TypeAlias = npt.NDArray[Any]
Probe: TypeAlias = Literal["linear", "mlp"]

ALPHAS = (0.01, 1.0, 100.0, 10_000.0)
"""Penalties of ridge regression on standardised inputs. Own choice."""

CS = (0.01, 1.0)
"""Inverse penalties of logistic regression. Own choice."""

MAX_ITERATIONS = 200
"""Of logistic regression. Own choice."""

HIDDEN_SIZE = 64
"""Of the one hidden layer. Own choice."""

MAX_EPOCHS, PATIENCE = 100, 15
"""As AtariARI trains its probes (Anand et al. 2019, arXiv:1906.08226; ``atariari/benchmark/probe.py``)."""


def predictions(
    probe: Probe, is_category: bool, train: tuple[Array, Array], validation: tuple[Array, Array], x: Array, seed: int
) -> Array:
    """
    Fit a probe and predict. Inputs and numbers are standardised; penalties and the epoch to stop at are those that do best on
    the validation rows.

    :param probe: ``"linear"`` (ridge or logistic regression) or ``"mlp"`` (one hidden layer, Adam).
    :param is_category: whether labels are classes.
    :param train: inputs (N, n) and labels (N,).
    :param validation: the same of other episodes.
    :param x: (M, n), inputs of the test rows.
    :param seed: of the MLP.
    :return: (M,), predicted labels.
    """
    scaler = StandardScaler().fit(train[0])
    x_train, x_validation, x_test = (scaler.transform(rows) for rows in (train[0], validation[0], x))
    if is_category:
        y_train, y_validation = train[1], validation[1]
        fitted = _classifier(probe, x_train, y_train, x_validation, y_validation, seed)
        classes: Array = fitted.predict(x_test)
        return classes
    mean, std = train[1].mean(), train[1].std()
    y_train, y_validation = (train[1] - mean) / std, (validation[1] - mean) / std
    fitted = _regressor(probe, x_train, y_train, x_validation, y_validation, seed)
    numbers: Array = mean + std * fitted.predict(x_test)
    return numbers


def constant(is_category: bool, labels: Array, n: int) -> Array:
    """
    :param is_category: whether labels are classes.
    :param labels: (N,), those of training.
    :param n: how many to predict.
    :return: (n,), their mean, or the most frequent of them.
    """
    if not is_category:
        return np.full(n, labels.mean())
    classes, counts = np.unique(labels, return_counts=True)
    return np.full(n, classes[counts.argmax()])


def _regressor(probe: Probe, x: Array, y: Array, x_validation: Array, y_validation: Array, seed: int) -> Any:
    def score(model: Any) -> float:
        return -float(np.square(model.predict(x_validation) - y_validation).mean())

    if probe == "linear":
        return max((Ridge(alpha).fit(x, y) for alpha in ALPHAS), key=score)
    return _trained(MLPRegressor(hidden_layer_sizes=(HIDDEN_SIZE,), random_state=seed), x, y, score, {})


def _classifier(probe: Probe, x: Array, y: Array, x_validation: Array, y_validation: Array, seed: int) -> Any:
    def score(model: Any) -> float:
        return float((model.predict(x_validation) == y_validation).mean())

    if probe == "linear":
        with warnings.catch_warnings():
            # The best so far is a probe as good as any other.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return max((LogisticRegression(C=c, max_iter=MAX_ITERATIONS).fit(x, y) for c in CS), key=score)
    return _trained(
        MLPClassifier(hidden_layer_sizes=(HIDDEN_SIZE,), random_state=seed), x, y, score, {"classes": np.unique(y)}
    )


def _trained(model: Any, x: Array, y: Array, score: Any, arguments: dict[str, Any]) -> Any:
    """Epoch by epoch: scikit-learn's own early stopping validates on rows of the training episodes."""
    best, best_score, n_worse = model, -np.inf, 0
    for _ in range(MAX_EPOCHS):
        _train_an_epoch(model, x, y, arguments)
        now = score(model)
        if now > best_score:
            best, best_score, n_worse = copy.deepcopy(model), now, 0
        else:
            n_worse += 1
        if n_worse == PATIENCE:
            break
    return best


def _train_an_epoch(model: Any, x: Array, y: Array, arguments: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        # What scikit-learn makes of Ctrl-C, to go on with the next epoch.
        warnings.filterwarnings("error", "Training interrupted by user")
        try:
            model.partial_fit(x, y, **arguments)
        except UserWarning as warning:
            raise KeyboardInterrupt from warning
