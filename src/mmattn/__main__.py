from mmattn.cli import main

raise SystemExit(main())
