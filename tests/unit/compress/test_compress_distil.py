"""Distillation: the loss has its closed forms in the limits, the teacher is followed, runs can be repeated."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.compress.distil import distil, distillation_loss, training_of
from trimtab.data import Split, from_arrays
from trimtab.errors import ModelError
from trimtab.optimize.architectures.mlp import mlp
from trimtab.optimize.predicting import predict
from trimtab.recipe.schema import Distil, Train
from trimtab.remembered import Remembered, key_of

SEEDS = st.integers(0, 1000)


def draw(seed: int, rows: int = 4, classes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher, torch.randint(classes, (rows,), generator=generator)


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_at_temperature_one_it_is_the_divergence_of_the_probabilities(seed: int) -> None:
    student, teacher, labels = draw(seed)
    p, q = teacher.softmax(1), student.softmax(1)
    expected = (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(distillation_loss(student, teacher, labels, 1.0, 1.0), expected)


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_at_great_temperature_it_is_half_the_variance_of_the_difference(seed: int) -> None:
    student, teacher, labels = draw(seed)
    expected = 0.5 * (teacher - student).var(1, correction=0).mean()
    torch.testing.assert_close(distillation_loss(student, teacher, labels, 1e4, 1.0), expected, rtol=1e-2, atol=1e-4)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.floats(0.5, 20), st.floats(0, 1))
def test_it_is_linear_in_alpha_and_zero_soft_loss_for_equal_logits(seed: int, temperature: float, alpha: float) -> None:
    student, teacher, labels = draw(seed)
    soft, hard = (distillation_loss(student, teacher, labels, temperature, weight) for weight in (1.0, 0.0))
    mixed = distillation_loss(student, teacher, labels, temperature, alpha)
    torch.testing.assert_close(hard, F.cross_entropy(student, labels))
    torch.testing.assert_close(mixed, alpha * soft + (1 - alpha) * hard)
    assert soft >= -1e-9
    assert distillation_loss(teacher, teacher, labels, temperature, 1.0).abs() < 1e-9


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


@pytest.fixture(scope="module")
def rows() -> Split:
    values = np.random.default_rng(0).normal(size=(96, 6)).astype(np.float32)
    return from_arrays("train", {"input": values}, np.arange(96) % 3)


@pytest.fixture
def pair() -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return mlp(6, 3, hidden=(8,)), mlp(6, 3, hidden=(16,))


def distance(student: nn.Module, teacher: nn.Module, rows: Split) -> float:
    inputs = {"input": torch.from_numpy(rows.inputs["input"])}
    return float(
        (predict(student, inputs, forward).softmax(1) - predict(teacher, inputs, forward).softmax(1)).abs().mean()
    )


def test_the_student_comes_nearer_to_the_teacher_not_to_the_labels(
    pair: tuple[nn.Module, nn.Module], rows: Split
) -> None:
    student, teacher = pair
    # Validation labels are what the teacher says, so that the best epoch is the nearest.
    said = predict(teacher, {"input": torch.from_numpy(rows.inputs["input"])}, forward).argmax(1).numpy()
    validation = from_arrays("validation", rows.inputs, said)
    before, teacher_before = distance(student, teacher, rows), copy.deepcopy(teacher.state_dict())
    result = distil(student, teacher, rows, validation, Distil(alpha=1.0, epochs=15, lr=0.02), forward, seed=0)
    assert distance(student, teacher, rows) < 0.5 * before
    assert result.epochs_run == 15
    assert all(torch.equal(teacher_before[name], value) for name, value in teacher.state_dict().items())


def test_the_same_seed_gives_bit_identical_students(pair: tuple[nn.Module, nn.Module], rows: Split) -> None:
    student, teacher = pair
    students = [copy.deepcopy(student) for _ in range(3)]
    for one, seed in zip(students, (1, 1, 2), strict=True):
        distil(one, teacher, rows, rows, Distil(epochs=2), forward, seed)
    first, again, other = (torch.cat([value.flatten() for value in one.state_dict().values()]) for one in students)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_other_classes_than_the_teacher_are_refused(pair: tuple[nn.Module, nn.Module], rows: Split) -> None:
    with pytest.raises(ModelError, match="the student gives 4 logits, the teacher 3"):
        distil(mlp(6, 4, hidden=(8,)), pair[1], rows, rows, Distil(epochs=1), forward, seed=0)


def test_the_teacher_answers_the_rows_as_they_are_augmented_for_the_student(rows: Split) -> None:
    seen: dict[str, list[Tensor]] = {"student": [], "teacher": []}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student, teacher = mlp(6, 3, hidden=(8,)), nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.9), nn.Linear(8, 3))
    answers: list[Tensor] = []

    def noting(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        logits = forward(model, inputs)
        if model is teacher:
            assert not model[1].training
            seen["teacher"].append(inputs["input"])
            answers.append(logits)
        elif model.training:
            seen["student"].append(inputs["input"])
        return logits

    def far(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        return {"input": inputs["input"] + 100 + torch.rand((), generator=generator)}

    distil(student, teacher, rows, rows, Distil(epochs=2), noting, seed=0, augment=far)
    augmented = [values for values in seen["teacher"] if values.mean() > 50]
    assert len(augmented) == len(seen["student"]) == 6
    assert all(torch.equal(one, other) for one, other in zip(augmented, seen["student"], strict=True))


def test_without_augmentation_the_teacher_answers_once(pair: tuple[nn.Module, nn.Module], rows: Split) -> None:
    student, teacher = pair
    asked = 0

    def counting(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        nonlocal asked
        asked += len(inputs["input"]) if model is teacher else 0
        return forward(model, inputs)

    distil(student, teacher, rows, rows, Distil(epochs=3), counting, seed=0)
    assert asked == len(rows) + 2  # and two rows on which its classes are counted


def test_by_default_it_trains_with_adamw_and_a_cosine() -> None:
    as_before = Train(lr=1e-3, epochs=15, patience=15, seed=3, optimizer="adamw", schedule="cosine", weight_decay=0.01)
    assert training_of(Distil(), 3) == as_before


def test_sgd_is_with_nesterovs_momentum_and_every_setting_reaches_the_training() -> None:
    given = {"lr": 0.1, "epochs": 7, "weight_decay": 5e-4, "schedule": "one_cycle", "batch_size": 9, "threads": 2}
    training = training_of(Distil(optimizer="sgd", channels_last=False, **given), seed=5)
    expected = Train(optimizer="sgd", nesterov=True, patience=7, channels_last=False, seed=5, **given)
    assert training == expected
    assert not training_of(Distil(optimizer="sgd", momentum=0.0), 0).nesterov
    with pytest.raises(ValueError, match="momentum is of optimizer: sgd, this is adamw"):
        Distil(momentum=0.9)


def test_students_of_one_seed_see_the_same_batches_and_the_teacher_answers_each_once(rows: Split) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher, small, large = (mlp(6, 3, hidden=(width,)) for width in (16, 4, 12))
    asked = 0

    def counting(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        nonlocal asked
        asked += model is teacher
        return forward(model, inputs)

    def noise(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        return {"input": inputs["input"] + torch.randn(inputs["input"].shape, generator=generator)}

    def taught(student: nn.Module, epochs: int, remembered: tuple[str, Remembered] | None, seed: int = 0) -> Tensor:
        settings = Distil(epochs=epochs, lr=0.01)
        distil(student, teacher, rows, rows, settings, counting, seed, noise, remembered=remembered)
        return torch.cat([value.flatten() for value in student.state_dict().values()])

    alone = taught(copy.deepcopy(large), 3, None)
    memory, asked = Remembered(), 0
    taught(small, 2, ("teacher", memory))
    assert (memory.hits, memory.misses) == (0, 6)
    first, asked = asked, 0
    assert torch.equal(taught(large, 3, ("teacher", memory)), alone)
    assert (memory.hits, memory.misses) == (6, 9)  # the third epoch is new
    assert asked < first
    taught(copy.deepcopy(small), 1, ("another teacher", memory))
    taught(copy.deepcopy(small), 1, ("teacher", memory), seed=1)
    assert memory.hits == 6


def test_what_does_not_fit_is_not_kept() -> None:
    memory = Remembered(limit=100)
    for number in range(3):
        memory.put(bytes([number]), np.zeros(6))
    assert [memory.get(bytes([number])) is not None for number in range(3)] == [True, True, False]


def test_a_digest_tells_values_shapes_names_and_who_is_asked_apart() -> None:
    values = np.arange(6, dtype=np.float32)
    keys = [
        key_of("a", {"x": values}),
        key_of("b", {"x": values}),
        key_of("a", {"y": values}),
        key_of("a", {"x": values.reshape(2, 3)}),
        key_of("a", {"x": values.view(np.int32)}),
        key_of("a", {"x": values + 1}),
        key_of("a", {"x": values[:0]}),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of("a", {"x": np.asfortranarray(values.reshape(2, 3))}) == keys[3]
