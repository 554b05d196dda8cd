"""The single feature or neuron that singles out each true class best.

In: activations, the true class of every token. Out: for each class the best feature, its threshold and its F1.
Never: a feature judged on the tokens that chose it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse


def best_f1(
    activations: Any, classes: np.ndarray, fit: np.ndarray, judge: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """The feature and threshold with the highest F1 for each class on the tokens `fit`, and their F1 on `judge`.

    A feature predicts a class where its activation is at least the threshold; every threshold at which a token of `fit`
    changes sides is tried (for sparse codes: above zero). F1 = 2 TP / (predicted + true).
    `activations` (tokens, features): CSR or dense. `classes` (tokens,): index into `names`, -1 where there is none.
    `fit`, `judge`: token numbers. Classes without a token in either are left out. One row a class: class, feature,
    threshold, fit (F1), F1 (on `judge`).
    """
    columns = sparse.csc_array(activations[fit]) if sparse.issparse(activations) else np.asarray(activations[fit])
    present = [c for c in range(len(names)) if (classes[fit] == c).any() and (classes[judge] == c).any()]
    member = classes[fit][:, None] == np.array(present)  # (n, classes)
    size = member.sum(0)
    best = np.zeros(len(present))
    feature = np.zeros(len(present), int)
    threshold = np.full(len(present), np.inf)
    for number in range(activations.shape[1]):
        value, token = _column(columns, number)
        order = np.argsort(-value, kind="stable")
        value = value[order]
        hits = np.cumsum(member[token[order]], axis=0, dtype=np.int32)
        f1 = 2 * hits / (np.arange(1, len(value) + 1)[:, None] + size)
        f1[:-1][value[:-1] == value[1:]] = 0  # no threshold falls between equal values
        for c in np.flatnonzero(f1.max(0, initial=0) > best):
            at = int(f1[:, c].argmax())
            best[c], feature[c], threshold[c] = f1[at, c], number, value[at]
    chosen = activations[judge][:, feature]
    fires = (chosen.toarray() if sparse.issparse(chosen) else np.asarray(chosen)) >= threshold
    truth = classes[judge][:, None] == np.array(present)
    judged = 2 * (fires & truth).sum(0) / np.maximum(fires.sum(0) + truth.sum(0), 1)
    labels = [names[c] for c in present]
    return pd.DataFrame({"class": labels, "feature": feature, "threshold": threshold, "fit": best, "F1": judged})


def _column(columns: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    if not sparse.issparse(columns):
        return columns[:, number], np.arange(len(columns))
    span = slice(columns.indptr[number], columns.indptr[number + 1])
    return columns.data[span], columns.indices[span]
