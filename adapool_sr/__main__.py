"""Run the command line as ``python -m adapool_sr``."""

from adapool_sr.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
