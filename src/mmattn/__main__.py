"""`python -m mmattn`: the command line."""

from mmattn.cli.main import main

raise SystemExit(main())
