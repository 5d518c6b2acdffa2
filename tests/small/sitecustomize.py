"""In every process that a test starts: M0 as the test has it (tests/small_m0.py)."""

from tests.small_m0 import use

use()
