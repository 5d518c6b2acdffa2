"""Whether a file's program equals the deploy form's on every input: both are run in exact arithmetic."""
