"""``python -m wsi_cam``: the command ``wsi-cam``, where its script is not on the path."""

from __future__ import annotations

import sys

from wsi_cam.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
