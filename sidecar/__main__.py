"""`python -m sidecar` is `karmo-sidecar`."""

import sys

from sidecar.cli import main

sys.exit(main())
