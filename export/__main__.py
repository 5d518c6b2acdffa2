"""`python -m export`."""

from export.cli.main import main

if __name__ == "__main__":  # a worker process of an export imports this as well
    main()
