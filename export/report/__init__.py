"""`report.html`: the page to read."""
