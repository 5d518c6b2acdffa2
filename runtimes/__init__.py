"""How an artifact is run: one adapter per thing that can run one."""
