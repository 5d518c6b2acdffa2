"""Which layer of a rejected artifact is at fault, and why."""
