"""How windows are packed into batches."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.states.windows import BATCH_TOKENS, PADDING, batches_of, windows_of

CPU = torch.device("cpu")


@given(lengths=st.lists(st.integers(2, 300), min_size=1, max_size=60), context=st.sampled_from([64, 256, 4096]))
def test_every_token_after_the_first_stands_in_one_batch_and_little_is_padded(lengths: list[int], context: int) -> None:
    texts = [list(range(1, length + 1)) for length in lengths]
    windows = [window for number, ids in enumerate(texts) for window in windows_of(number, ids, context, context // 2)]
    batches = list(batches_of(windows, CPU))
    found = sorted(
        (int(text), int(position), int(target))
        for batch in batches
        for text, position, target in zip(batch.texts, batch.positions, batch.targets, strict=True)
    )
    assert found == [(number, at, ids[at]) for number, ids in enumerate(texts) for at in range(1, len(ids))]
    for batch in batches:
        assert int((batch.attention_mask == 0).sum()) <= PADDING["cpu"]
        assert batch.input_ids.numel() <= max(BATCH_TOKENS, batch.input_ids.shape[1])


def test_where_the_next_text_would_cost_more_padding_than_a_pass_of_its_own_a_batch_ends() -> None:
    windows = [
        window for number, n in enumerate((300, 250, 220, 150)) for window in windows_of(number, [1] * n, 512, 9)
    ]
    assert [list(batch.input_ids.shape) for batch in batches_of(windows, CPU)] == [[2, 300], [2, 220]]


def test_where_several_plans_run_a_batch_they_share_the_padding_that_is_allowed() -> None:
    windows = [window for number, n in enumerate((60, 50, 42, 40)) for window in windows_of(number, [1] * n, 512, 9)]
    shapes = {
        passes: [list(batch.input_ids.shape) for batch in batches_of(windows, CPU, passes)] for passes in (1, 4, 8)
    }
    assert shapes == {1: [[4, 60]], 4: [[2, 60], [2, 42]], 8: [[2, 60], [2, 42]]}
    assert [list(batch.input_ids.shape) for batch in batches_of(windows, CPU, 96)] == [
        [1, 60],
        [1, 50],
        [1, 42],
        [1, 40],
    ]


def test_a_device_that_runs_many_at_once_gets_them_together() -> None:
    windows = [
        window for number, n in enumerate((300, 250, 220, 150)) for window in windows_of(number, [1] * n, 512, 9)
    ]
    assert [list(batch.input_ids.shape) for batch in batches_of(windows, torch.device("meta"))] == [[4, 300]]
