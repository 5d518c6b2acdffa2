"""In every process that a test starts: M0 as the test has it (tests/small_m0.py), and what the suite has made.

The garbage collector looks seldom at what they import, which is a lot: most of them end within seconds.
"""

import gc

from tests.shared import share
from tests.small_m0 import use

gc.set_threshold(50_000, 10, 10)
use()
share()
