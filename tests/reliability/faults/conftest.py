"""What the tests of faults share: the faults themselves, counted over the whole run."""

from __future__ import annotations

import pytest

from tests.reliability.faults.fault import Faults


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return Faults(tmp_path_factory.mktemp("faults"))
