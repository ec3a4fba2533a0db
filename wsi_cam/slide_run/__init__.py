"""The parts of one slide's story that :mod:`wsi_cam.pipeline` tells."""
