"""Training: repeatable, leaves nothing behind, keeps the best weights, stops early, reports, works from a thread."""

from __future__ import annotations

import copy
import logging
import random
import signal
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimtab.data import Split, from_arrays
from trimtab.errors import ModelError
from trimtab.modes import mark_resting
from trimtab.optimize.architectures.cnn import cnn
from trimtab.optimize.architectures.mlp import mlp
from trimtab.optimize.batches import Batch
from trimtab.optimize.predicting import predict_logits
from trimtab.optimize.training import Fit, fit
from trimtab.preprocess import logits
from trimtab.recipe.schema import Preprocess, Train

SIXTEENTH = Preprocess(scale=1 / 16)


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return logits(model, inputs, SIXTEENTH)


@pytest.fixture(scope="module")
def digits() -> tuple[Split, Split]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8).astype(np.float32)
    labels = labels.astype(np.int64)
    return (
        from_arrays("train", {"input": images[:129]}, labels[:129]),
        from_arrays("validation", {"input": images[200:300]}, labels[200:300]),
    )


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return mlp(64, 10, hidden=(16,), dropout=0.2)


def trained(digits: tuple[Split, Split], **changes: object) -> tuple[nn.Module, Fit]:
    model = network()
    settings = Train(**{"epochs": 4, "seed": 3, **changes})  # type: ignore[arg-type]
    return model, fit(model, *digits, settings, forward=forward)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_same_seed_gives_bit_identical_weights_and_another_seed_others(digits: tuple[Split, Split]) -> None:
    first, _ = trained(digits)
    again, _ = trained(digits)
    other, _ = trained(digits, seed=4)
    assert same(first, again)
    assert not same(first, other)


def test_global_random_states_and_flags_are_as_before(digits: tuple[Split, Split]) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    flag = torch.are_deterministic_algorithms_enabled()
    trained(digits, epochs=1)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()
    assert before[2] == random.getstate()
    assert flag == torch.are_deterministic_algorithms_enabled()
    assert torch.is_grad_enabled()


def test_no_file_is_left_and_nothing_is_said(
    digits: tuple[Split, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger("lightning.pytorch").level
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trained(digits, epochs=1)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in said if "lightning" in warning.filename] == []
    assert logging.getLogger("lightning.pytorch").level == level


def test_signal_handlers_survive(digits: tuple[Split, Split]) -> None:
    def mine(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, mine)
    try:
        trained(digits, epochs=1)
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_worker_thread_trains_to_the_same_weights(digits: tuple[Split, Split]) -> None:
    # Built here: initialisation outside `fit` draws from torch's one global generator. And a new thread starts with
    # torch's default number of threads, whatever the main thread set, hence the explicit one.
    settings = Train(epochs=4, seed=3, threads=1)
    models = [network() for _ in range(3)]

    def train(model: nn.Module) -> None:
        fit(model, *digits, settings, forward=forward)

    threads = [threading.Thread(target=train, args=(model,)) for model in models[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    train(models[2])
    assert all(same(model, models[2]) for model in models[:2])


def test_the_weights_of_the_best_epoch_are_restored(digits: tuple[Split, Split]) -> None:
    # A rate this high makes the loss go up and down, so that best and last differ.
    model, result = trained(digits, epochs=8, lr=0.1, schedule="constant", patience=8)
    losses = [entry["validation_loss"] for entry in result.history]
    validation = digits[1]
    own = torch.from_numpy(predict_logits(model, validation.inputs, SIXTEENTH))
    now = float(nn.functional.cross_entropy(own, torch.from_numpy(validation.labels)))
    assert result.best_epoch == 1 + int(np.argmin(losses))
    assert result.best_epoch < 8
    assert now == pytest.approx(min(losses), abs=1e-6)
    assert not model.training


def test_it_stops_after_patience_epochs_without_a_better_one(digits: tuple[Split, Split]) -> None:
    _, result = trained(digits, epochs=40, lr=0.3, schedule="constant", patience=2)
    assert result.epochs_run == result.best_epoch + 2
    assert result.epochs_run == len(result.history) < 40


def test_progress_is_told_every_epoch(digits: tuple[Split, Split]) -> None:
    seen: list[tuple[int, int]] = []
    fit(
        network(),
        *digits,
        Train(epochs=3),
        forward=forward,
        progress=lambda epoch, epochs, figures: seen.append((epoch, epochs)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_what_progress_raises_ends_the_training(digits: tuple[Split, Split]) -> None:
    def stop(*_: object) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fit(network(), *digits, Train(epochs=3), forward=forward, progress=stop)


def test_cosine_ends_near_zero_and_constant_stays(digits: tuple[Split, Split]) -> None:
    cosine = [entry["lr"] for entry in trained(digits, schedule="cosine", lr=0.01)[1].history]
    constant = [entry["lr"] for entry in trained(digits, schedule="constant", lr=0.01)[1].history]
    assert cosine[0] == pytest.approx(0.01, rel=0.2)
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[-1] < 0.002
    assert set(constant) == {0.01}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_every_optimizer_of_the_recipe_lowers_the_loss(digits: tuple[Split, Split], optimizer: str) -> None:
    history = trained(digits, optimizer=optimizer, lr=0.01, epochs=3)[1].history
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_a_last_batch_of_one_row_does_not_stop_batch_norm(digits: tuple[Split, Split]) -> None:
    train, validation = digits
    assert len(train) % 32 == 1
    result = fit(cnn(1, 10, widths=(8,)), train, validation, Train(epochs=1), forward=forward)
    assert result.epochs_run == 1


def test_a_model_in_evaluation_mode_is_trained_in_training_mode(digits: tuple[Split, Split]) -> None:
    model = cnn(1, 10, widths=(8,)).eval()
    seen = []
    model.register_forward_pre_hook(lambda module, _: seen.append(all(m.training for m in module.modules())))
    [norm] = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = norm.running_mean.clone()  # type: ignore[union-attr]
    fit(model, *digits, Train(epochs=1), forward=forward)
    assert seen.count(True) == len(digits[0]) // 32  # the last one of one row is left out, the others judge
    assert not torch.equal(norm.running_mean, before)  # type: ignore[arg-type]
    assert not any(module.training for module in model.modules())


def test_what_a_builder_left_in_evaluation_mode_stays_there_through_copies_and_loading(
    digits: tuple[Split, Split],
) -> None:
    model = cnn(1, 10, widths=(8,))
    [frozen] = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    frozen.eval()
    opened = copy.deepcopy(mark_resting(model)).eval()
    [norm] = [module for module in opened.modules() if isinstance(module, nn.BatchNorm2d)]
    modes = []
    opened.register_forward_pre_hook(lambda module, _: modes.append((module.training, norm.training)))
    fit(opened, *digits, Train(epochs=1), forward=forward)
    assert (True, False) in modes
    assert (True, True) not in modes
    assert torch.equal(norm.running_mean, frozen.running_mean)  # type: ignore[arg-type]
    assert not mark_resting(cnn(1, 10).eval()).training


def test_a_loss_that_is_not_finite_is_an_error_with_advice(digits: tuple[Split, Split]) -> None:
    def broken(answer: Tensor, batch: Batch) -> Tensor:
        return answer.sum() * float("nan")

    with pytest.raises(ModelError, match="training diverged") as caught:
        fit(network(), *digits, Train(epochs=2), forward=forward, loss=broken)
    assert "train.lr" in caught.value.fix


def test_labels_beyond_the_logits_are_named(digits: tuple[Split, Split]) -> None:
    with pytest.raises(ModelError, match="gives 7 logits, but the labels go up to 9"):
        fit(mlp(64, 7, hidden=(8,)), *digits, Train(epochs=1), forward=forward)


def test_a_loss_gets_the_rows_it_is_computed_on(digits: tuple[Split, Split]) -> None:
    train, validation = digits
    seen: list[int] = []

    def noting(answer: Tensor, batch: Batch) -> Tensor:
        assert batch.labels.tolist() == train.labels[batch.rows.numpy()].tolist()
        seen.extend(batch.rows.tolist())
        return nn.functional.cross_entropy(answer, batch.labels)

    fit(network(), train, validation, Train(epochs=1, batch_size=43), forward=forward, loss=noting)
    assert sorted(seen) == list(range(129))
    assert seen != sorted(seen)


def test_several_named_inputs_reach_the_model() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.left(a) + self.right(b)

    draw = np.random.default_rng(0)
    inputs = {key: draw.normal(size=(64, 3)).astype(np.float32) for key in ("b", "a")}
    labels = (inputs["a"][:, 0] > inputs["b"][:, 1]).astype(np.int64)
    split = from_arrays("train", inputs, labels)
    result = fit(Sum(), split, split, Train(epochs=15, lr=0.1), forward=lambda m, i: logits(m, i, Preprocess()))
    assert max(entry["validation_accuracy"] for entry in result.history) > 0.9


def test_predicting_does_not_depend_on_the_batch_and_keeps_the_mode(digits: tuple[Split, Split]) -> None:
    model = cnn(1, 10, widths=(8,)).train()
    inputs = digits[1].inputs
    small, large = (predict_logits(model, inputs, SIXTEENTH, batch=batch) for batch in (7, 1000))
    np.testing.assert_allclose(small, large, rtol=1e-4, atol=1e-5)
    assert small.shape == (100, 10)
    assert all(module.training for module in model.modules())


def test_an_output_that_is_no_matrix_of_logits_is_refused(digits: tuple[Split, Split]) -> None:
    with pytest.raises(ModelError, match="100 rows gave an output of shape"):
        predict_logits(nn.Identity(), digits[1].inputs, SIXTEENTH)


def test_an_image_too_small_for_the_poolings_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be halved"):
        cnn(1, 10, widths=(8, 8, 8, 8), size=8)
