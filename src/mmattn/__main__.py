from mmattn.cli.main import main

raise SystemExit(main())
