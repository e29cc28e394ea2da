"""``python -m super_selfish`` is the command ``super-selfish``."""

from __future__ import annotations

import sys

from super_selfish.cli import main

if __name__ == "__main__":
    sys.exit(main())
