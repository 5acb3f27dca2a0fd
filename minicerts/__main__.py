"""`python -m minicerts`."""

from minicerts.main import main

if __name__ == "__main__":
    raise SystemExit(main())
