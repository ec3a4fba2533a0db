"""The slides of a run with their heatmaps in a browser, on this machine alone."""
