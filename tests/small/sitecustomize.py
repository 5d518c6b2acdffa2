"""In every process that a test starts: M0 as the test has it (tests/small_m0.py), and what the suite has made."""

from tests.shared import share
from tests.small_m0 import use

use()
share()
