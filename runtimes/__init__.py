"""How an artifact is run and read. Importing it enters every format's companion files, so that digests cover them."""

import runtimes.registry  # noqa: F401
