"""What artifacts are compared with: the reference logits, noise floors and budgets."""
