from __future__ import annotations

from rlm_local.engine.llama.metrics import Metrics


def sample(metrics: Metrics, name: str) -> float:
    lines = metrics.text().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_the_time_of_masks_is_told_from_ten_microseconds_up() -> None:
    metrics = Metrics(cells=1)
    for took_s in (0.000_005, 0.000_09, 0.000_1, 0.002):
        metrics.masked(took_s)
    assert sample(metrics, 'rlm_engine_mask_seconds_bucket{le="1e-05"}') == 1
    assert sample(metrics, 'rlm_engine_mask_seconds_bucket{le="0.0001"}') == 3
    assert sample(metrics, 'rlm_engine_mask_seconds_bucket{le="0.003"}') == 4
    assert sample(metrics, "rlm_engine_mask_seconds_count") == 4


def test_the_wait_until_the_first_step_has_a_bound_at_its_goal_of_five_milliseconds() -> None:
    metrics = Metrics(cells=1)
    for waited_s in (0.004, 0.006):
        metrics.began(waited_s)
    assert sample(metrics, 'rlm_engine_begin_seconds_bucket{le="0.005"}') == 1
    assert sample(metrics, "rlm_engine_begin_seconds_sum") == 0.01
