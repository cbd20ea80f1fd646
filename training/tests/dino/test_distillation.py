"""The loss against the triple loop that defines it; center, teacher, schedules; signs of collapse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needed import torch

from heartlens.networks.backbone import Backbone, BackboneShape
from training.dino.distillation import (
    DinoModel,
    DistillationLoss,
    ProjectionHead,
    cosine,
    head_rule,
    linear_warmup,
    update_ema,
    warmup_cosine,
)
from training.engine.monitor import CollapseMonitor, effective_rank, teacher_entropy


@pytest.fixture
def cosines():
    """Cosines of a teacher with 2 views and a student with 5, of 3 slices and 4 prototypes."""
    rng = np.random.default_rng(0)
    return [torch.from_numpy(rng.uniform(-1, 1, (views, 3, 4))).float() for views in (2, 5)]


def plain_loss(teacher, student, center, teacher_temperature, student_temperature):
    """The definition, number by number."""

    def softmax(x):
        e = [math.exp(v) for v in x]
        return [v / sum(e) for v in e]

    total, pairs = 0.0, 0
    for t in range(len(teacher)):
        for s in range(len(student)):
            if s == t:
                continue
            pairs += 1
            for b in range(len(teacher[0])):
                p = softmax([(v - c) / teacher_temperature for v, c in zip(teacher[t][b], center, strict=True)])
                q = softmax([v / student_temperature for v in student[s][b]])
                total -= sum(pk * math.log(qk) for pk, qk in zip(p, q, strict=True))
    return total / (len(teacher[0]) * pairs)


def test_the_loss_is_the_sum_that_its_docstring_says(cosines):
    teacher, student = cosines
    loss = DistillationLoss(4, student_temperature=0.1)
    loss.center.copy_(torch.tensor([0.1, -0.2, 0.0, 0.3]))
    value = loss(loss.teacher_probs(teacher, 0.04), student, first_view=0, views=5)
    assert value.item() == pytest.approx(
        plain_loss(teacher.tolist(), student.tolist(), loss.center.tolist(), 0.04, 0.1), rel=1e-5
    )


def test_the_parts_of_the_views_add_up_to_the_loss(cosines):
    teacher, student = cosines
    loss = DistillationLoss(4)
    p = loss.teacher_probs(teacher, 0.04)
    whole = loss(p, student, first_view=0, views=5)
    parts = [loss(p, student[a:b], first_view=a, views=5) for a, b in ((0, 2), (2, 4), (4, 5))]
    torch.testing.assert_close(sum(parts), whole)


def test_a_student_that_says_what_the_teacher_says_has_the_teachers_entropy():
    loss = DistillationLoss(4, student_temperature=0.1)
    cosines = torch.tensor([0.9, 0.1, 0.0, -0.5]).expand(2, 1, 4)
    p = loss.teacher_probs(cosines, 0.1)
    value = loss(p, cosines, first_view=0, views=2)
    assert value.item() == pytest.approx(teacher_entropy(p) * math.log(4), rel=1e-5)


def test_no_gradient_reaches_the_teacher(cosines):
    teacher, student = (x.requires_grad_() for x in cosines)
    loss = DistillationLoss(4)
    loss(loss.teacher_probs(teacher, 0.04), student, first_view=0, views=5).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_the_loss_is_computed_in_float32_of_bfloat16_cosines(cosines):
    teacher, student = (x.bfloat16() for x in cosines)
    loss = DistillationLoss(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(loss.teacher_probs(teacher, 0.02), student, first_view=0, views=5).dtype == torch.float32


def test_the_center_moves_a_tenth_of_the_way_to_the_mean():
    loss = DistillationLoss(2, center_momentum=0.9)
    loss.center.copy_(torch.tensor([1.0, 0.0]))
    loss.moves.fill_(50)
    loss.update_center(torch.tensor([[[0.0, 1.0], [0.0, 3.0]]]))
    assert loss.center.tolist() == pytest.approx([0.9, 0.2])


def test_the_first_moves_make_the_center_the_mean_so_far():
    loss = DistillationLoss(1, center_momentum=0.9)
    centers = []
    for value in (4.0, 0.0, 2.0):
        loss.update_center(torch.full((2, 3, 1), value))
        centers.append(loss.center.item())
    assert centers == pytest.approx([4, 2, 2])


def test_centering_takes_away_an_answer_that_always_wins():
    loss = DistillationLoss(3, center_momentum=0.0)
    always = torch.tensor([1.0, 0.0, 0.0]).expand(2, 4, 3)
    assert loss.teacher_probs(always, 0.04)[..., 0].min() > 0.99
    loss.update_center(always)
    np.testing.assert_allclose(loss.teacher_probs(always, 0.04), 1 / 3, atol=1e-6)


def test_the_teacher_follows_by_one_minus_momentum():
    teacher, student = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    expected = 0.9 * teacher.weight.detach() + 0.1 * student.weight.detach()
    update_ema(teacher, student, 0.9)
    torch.testing.assert_close(teacher.weight.detach(), expected)
    update_ema(teacher, student, 0.0)
    assert torch.equal(teacher.bias, student.bias)


def test_the_head_gives_cosines():
    head = ProjectionHead(6, 5, hidden=8, bottleneck=4)
    cosines = head(100 * torch.randn(50, 6))
    assert cosines.shape == (50, 5)
    assert cosines.abs().max() <= 1 + 1e-6
    with torch.no_grad():
        head.prototypes.weight.mul_(7)  # only directions count
    x = torch.randn(3, 6)
    before = head(x)
    with torch.no_grad():
        head.prototypes.weight.div_(7)
    torch.testing.assert_close(head(x), before)


def test_the_head_is_float32_under_autocast_and_survives_a_zero_embedding():
    head = ProjectionHead(6, 5, hidden=8, bottleneck=4)
    zero = torch.zeros(2, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cosines = head(zero)
    cosines.sum().backward()
    assert cosines.dtype == torch.float32
    assert zero.grad.isfinite().all()


def test_a_learner_gives_embeddings_and_cosines():
    shape = BackboneShape(dim=12, depth=1, heads=3, patch=4, size=16)
    embedding, cosines = DinoModel(Backbone(shape), ProjectionHead(12, 5, hidden=8, bottleneck=4))(
        torch.randn(3, 1, 8, 8)
    )
    assert (tuple(embedding.shape), tuple(cosines.shape)) == ((3, 12), (3, 5))


# Schedules


@given(st.integers(2, 500), st.integers(0, 100))
@settings(deadline=None)
def test_the_learning_rate_rises_to_its_peak_and_ends_at_its_end(steps, rise):
    rise = min(rise, steps - 2)
    rates = [warmup_cosine(s, steps, rise=rise, peak=2.0, end=0.5) for s in range(steps)]
    assert max(rates) == 2.0
    assert rates[-1] == pytest.approx(0.5)
    assert rates[:rise] == sorted(rates[:rise])
    assert rates[rise:] == sorted(rates[rise:], reverse=True)


def test_schedules_reach_their_ends_exactly():
    assert [cosine(0, 10, 0.996, 1.0), cosine(9, 10, 0.996, 1.0)] == [0.996, 1.0]
    assert [linear_warmup(0, 5, 0.02, 0.03), linear_warmup(5, 5, 0.02, 0.03), linear_warmup(99, 5, 0.02, 0.03)] == [
        0.02,
        0.03,
        0.03,
    ]
    assert linear_warmup(0, 0, 0.02, 0.03) == 0.03
    assert cosine(3, 1, 0.0, 1.0) == 1.0


@pytest.mark.parametrize(
    ("slices", "prototypes", "temperature"),
    [(500, 1024, 0.02), (20_000, 1024, 0.02), (20_001, 2048, 0.03), (90_000, 4096, 0.04), (10**6, 65_536, 0.07)],
)
def test_head_and_temperature_follow_the_number_of_slices(slices, prototypes, temperature):
    assert head_rule(slices) == (prototypes, temperature)


# Collapse


def test_a_sure_teacher_has_entropy_0_and_an_empty_one_1():
    assert teacher_entropy(torch.eye(5)) == 0
    assert teacher_entropy(torch.full((2, 5), 0.2)) == pytest.approx(1)


def test_effective_rank_counts_directions():
    directions = torch.linalg.qr(torch.randn(8, 8, dtype=torch.double))[0]
    for n in (1, 3, 8):
        points = torch.cat([directions[:n], -directions[:n]])
        assert effective_rank(5 + points) == pytest.approx(n)
    assert effective_rank(torch.ones(10, 4)) == 1


def test_a_uniform_teacher_ends_the_run_after_patience():
    watch = CollapseMonitor(patience=3)
    assert [watch.check(s, e, 20) for s, e in enumerate((0.9995, 0.9995, 0.5, 0.9999, 0.9999))] == [None] * 5
    assert "same probability" in watch.check(5, 0.9999, 20)


def test_equal_embeddings_end_the_run_after_patience_also_across_a_resume():
    watch = CollapseMonitor(patience=2)
    assert watch.check(1, 0.5, 1.2) is None
    resumed = CollapseMonitor(patience=2)
    resumed.load_state_dict(watch.state_dict())
    assert "same embedding (effective rank 1.10, 2 checks in a row)" in resumed.check(2, 0.5, 1.1)


def test_a_low_rank_warns_once(caplog):
    watch = CollapseMonitor(patience=2)
    for step in range(3):
        assert watch.check(step, 0.5, 5.0) is None
    assert caplog.text.count("5.0 directions only") == 1
