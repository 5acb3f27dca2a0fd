"""`python -m minictl`."""

from minictl.main import main

if __name__ == "__main__":
    raise SystemExit(main())
