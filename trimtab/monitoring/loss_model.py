"""Direct loss estimation: a small tree that says how large a regression's error is where a row lies.

The idea is NannyML's ("DLE" in its documentation); the model is a regression tree (Breiman et al. 1984) of at most 16
leaves on the watched columns. It is grown by scikit-learn at release on held-out rows and kept as plain arrays, so that
a window needs numpy alone, and a tree says nothing beyond what it has seen. Its size is chosen by five-fold
cross-validation. Often none beats a single leaf by more than one standard error: then the inputs do not tell where the
model errs, and the estimate is the held-out error itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trimtab.errors import DataError

Array = np.ndarray
SIZES = (1, 2, 4, 8, 16)  # leaves
LEAF_ROWS = 20
FOLDS = 5
SEED = 0
LEAF = -1
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class LossModel:
    """A tree; every tuple but the first two has one entry a node, the root first.

    Attributes:
        columns: names of the columns it looks at. fill: what stands for a value that is not finite, one a column.
        feature: index into `columns`, -1 for a leaf. threshold: rows at or below it go left.
        left, right: index of the child.
        mean, variance, rows: of the squared or absolute errors of the held-out rows in the node.
        squared: whether the errors are squared.
    """

    columns: tuple[str, ...]
    fill: tuple[float, ...]
    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    mean: tuple[float, ...]
    variance: tuple[float, ...]
    rows: tuple[int, ...]
    squared: bool

    @property
    def leaves(self) -> int:
        """How many parts it tells apart."""
        return sum(feature == LEAF for feature in self.feature)

    def expected(self, columns: Mapping[str, Array]) -> tuple[float, float]:
        """Mean error of these rows as it can be expected, and its standard error.

        The error counts how rows of a leaf differ from each other and how uncertain the leaf's own mean is.

        Args:
            columns: name → (n,), n ≥ 1; every column of the tree, for the same rows.
        """
        node = self._leaf(_table(columns, self.columns, self.fill))
        place, count = np.unique(node, return_counts=True)
        share = count / len(node)
        mean, variance, rows = (np.array(values)[place] for values in (self.mean, self.variance, self.rows))
        own = (count * variance).sum() / len(node) ** 2
        of_leaves = (np.square(share) * variance / rows).sum()
        return float(share @ mean), float(np.sqrt(own + of_leaves))

    def _leaf(self, table: Array) -> Array:
        feature, threshold, left, right = (
            np.array(values) for values in (self.feature, self.threshold, self.left, self.right)
        )
        node = np.zeros(len(table), np.int64)
        for _ in self.feature:  # no path is longer than there are nodes
            inner = feature[node] != LEAF
            if not inner.any():
                break
            here = node[inner]
            goes_left = table[inner, feature[here]] <= threshold[here]
            node[inner] = np.where(goes_left, left[here], right[here])
        return node

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LossModel:
        """The inverse of `to_json`."""
        return cls(**{key: tuple(entry) if isinstance(entry, list | tuple) else entry for key, entry in value.items()})


def fit(columns: Mapping[str, Array], output: Array, label: Array, squared: bool) -> LossModel:
    """Grow the tree on held-out rows.

    Args:
        columns: watched columns, name → (n,); those without a finite value are left out.
        output, label: float (n, 1). squared: for RMSE; else absolute errors, for MAE.

    Raises:
        DataError: fewer than 20 rows, answers or labels that are not finite, or several outputs.
    """
    error = np.asarray(output, np.float64) - label
    if error.shape[1:] != (1,) or len(error) < LEAF_ROWS or not np.isfinite(error).all():
        raise DataError(
            f"errors of shape {error.shape} or not finite",
            where="loss model",
            fix=f"give {LEAF_ROWS} rows of one output",
        )
    loss = np.square(error[:, 0]) if squared else np.abs(error[:, 0])
    names = tuple(name for name, values in columns.items() if np.isfinite(np.asarray(values, np.float64)).any())
    fill = tuple(float(np.median(values[np.isfinite(values)])) for values in (columns[name] for name in names))
    table = _table(columns, names, fill)
    tree = _grown(table, loss, _size(table, loss)).tree_
    return LossModel(
        columns=names,
        fill=fill,
        feature=tuple(int(value) for value in np.where(tree.children_left == LEAF, LEAF, tree.feature)),
        threshold=tuple(float(value) for value in tree.threshold),
        left=tuple(int(value) for value in tree.children_left),
        right=tuple(int(value) for value in tree.children_right),
        mean=tuple(float(value) for value in tree.value[:, 0, 0]),
        variance=tuple(float(value) for value in tree.impurity),
        rows=tuple(int(value) for value in tree.n_node_samples),
        squared=squared,
    )


def _size(table: Array, loss: Array) -> int:
    """Leaves at most: by cross-validation the best, where it beats a single one by more than a standard error."""
    fold = np.random.default_rng(SEED).permutation(len(loss)) % FOLDS
    off = np.empty((len(SIZES), len(loss)))
    for part in range(FOLDS):
        held = fold == part
        for place, size in enumerate(SIZES):
            grown = _grown(table[~held], loss[~held], size)
            off[place, held] = np.square(grown.predict(table[held]) - loss[held])
    best = int(off.mean(axis=1).argmin())
    better = off[0] - off[best]
    return SIZES[best] if better.mean() > better.std(ddof=1) / len(loss) ** 0.5 else SIZES[0]


def _grown(table: Array, loss: Array, size: int) -> Any:
    from sklearn.tree import DecisionTreeRegressor

    # Where a leaf must hold all rows the root is the only one; `max_leaf_nodes` may not be 1.
    least = len(loss) if size == 1 else LEAF_ROWS
    tree = DecisionTreeRegressor(max_leaf_nodes=max(size, 2), min_samples_leaf=least, random_state=SEED)
    return tree.fit(table, loss)


def _table(columns: Mapping[str, Array], names: Sequence[str], fill: Sequence[float]) -> Array:
    """Float32, as scikit-learn compares them, (n, columns)."""
    sides = [np.asarray(columns[name], np.float64) for name in names]
    filled = [np.where(np.isfinite(side), side, value) for side, value in zip(sides, fill, strict=True)]
    return np.clip(np.column_stack(filled), -LARGEST, LARGEST).astype(np.float32)
