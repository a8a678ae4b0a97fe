"""How many faults have been survived, of which kind; the last file of this folder."""

from __future__ import annotations

import time

import pytest

from tests.reliability.faults.fault import Faults
from tests.reliability.scale import FULL, keep

MIN_FAULTS, MIN_SERVER_KILLS = 500, 20


def test_enough_faults_of_every_kind_have_been_survived(faults: Faults) -> None:
    total = faults.survived.total()
    if not FULL or total < MIN_FAULTS:
        print(f"\nfaults: {total}, {dict(faults.survived)}")
        pytest.skip("only a full run of the whole folder has enough faults")
    figures = {
        "num_faults": total,
        "num_kills_of_servers": faults.num_kills_of_servers,
        "by_kind": dict(sorted(faults.survived.items())),
        "in_the_middle_of_a_commit": faults.in_a_commit.total(),
        "most_lost_of_an_answer_s": round(faults.most_lost_s, 2),
        "duration_s": round(time.monotonic() - faults.began_s),
    }
    keep("faults", figures)
    assert faults.num_kills_of_servers >= MIN_SERVER_KILLS
