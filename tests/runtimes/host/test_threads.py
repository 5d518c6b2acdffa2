"""One thread wherever a budget comes from, whatever the process computed on before."""

import numpy as np
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from runtimes.host.threads import one_thread, torch_threads


def _threads() -> set[int]:
    return {torch.get_num_threads(), *(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")}


def test_inside_there_is_one_and_then_as_many_as_before() -> None:
    assert np.ones(2) @ np.ones(2) == 2  # BLAS is loaded
    with torch_threads(2), threadpool_limits(2, user_api="blas"):
        assert _threads() == {2}
        with one_thread():
            assert _threads() == {1}
        assert _threads() == {2}
