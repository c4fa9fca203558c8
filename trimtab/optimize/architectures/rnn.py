"""Recurrent network for sequences (n, steps, features)."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from trimtab.optimize.architectures.arguments import check_choice, check_counts, check_dropout

Cell = Literal["gru", "lstm"]
State = Literal["last", "mean"]
CELLS: dict[Cell, type[nn.GRU | nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


def rnn(
    features: int,
    classes: int,
    hidden: int = 64,
    layers: int = 1,
    cell: Cell = "gru",
    state: State = "last",
    dropout: float = 0.1,
) -> nn.Module:
    """GRU or LSTM over the steps, then dropout and a linear head on its last or mean hidden state.

    GRU: Cho et al. 2014, arXiv:1406.1078. LSTM: Hochreiter and Schmidhuber 1997, "Long Short-Term Memory", Neural
    Computation 9(8).

    The module takes float32 (n, steps, features) and gives logits float32 (n, classes). Hidden units cannot be
    pruned: `compress.prune` refuses the model and says so.

    Args:
        features: values a step.
        classes: number of logits; of a regression, numbers a row.
        hidden: units of the hidden state.
        layers: recurrent layers on top of each other.
        cell: "gru" or "lstm".
        state: "last" reads the hidden state after the last step, "mean" the average over all steps.
        dropout: probability that a unit is dropped in training, between recurrent layers and before the head.

    Raises:
        ValueError: an argument is not allowed.
    """
    check_counts(features=features, classes=classes, hidden=hidden, layers=layers)
    check_choice("cell", cell, get_args(Cell))
    check_choice("state", state, get_args(State))
    check_dropout(dropout)
    return Recurrent(features, classes, hidden, layers, cell, state, dropout)


class Recurrent(nn.Module):
    """(n, steps, features) → recurrent layers → one state (n, hidden) → logits (n, classes)."""

    def __init__(
        self, features: int, classes: int, hidden: int, layers: int, cell: Cell, state: State, dropout: float
    ) -> None:
        super().__init__()
        # torch warns about dropout between layers where there is one layer only.
        between = dropout if layers > 1 else 0.0
        self.recurrent = CELLS[cell](features, hidden, layers, batch_first=True, dropout=between)
        self.state = state
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, classes)

    def forward(self, value: Tensor) -> Tensor:
        """Sequences (n, steps, features) → logits (n, classes)."""
        states, _ = self.recurrent(value)
        state = states[:, -1] if self.state == "last" else states.mean(1)
        return self.head(self.dropout(state))
