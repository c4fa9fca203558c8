"""Training mode for what is trained, but for the submodules that its builder left in evaluation mode."""

from __future__ import annotations

from torch import nn

MARK = "stays_in_evaluation"


def mark_resting(model: nn.Module) -> nn.Module:
    """Remember which submodules are in evaluation mode in a model that is not: frozen batch norms of a backbone, say.

    The mark goes with the submodule, through copies and cuts. A model that is in evaluation mode as a whole was only
    put there, and nothing of it is marked.
    """
    if model.training:
        for module in model.modules():
            if not module.training:
                setattr(module, MARK, True)
    return model


def into_training(model: nn.Module) -> None:
    """Training mode, in place, but for what is marked or in evaluation mode by itself.

    Lightning trains a model in the mode it is given in, and what is opened from the store is in evaluation mode: batch
    norms would keep their statistics, and nothing would be dropped out.
    """
    mark_resting(model).train()
    for module in model.modules():
        if getattr(module, MARK, False):
            module.training = False
