"""`python -m carousel_exporter`."""

import sys

from carousel_exporter.cli import main

sys.exit(main())
