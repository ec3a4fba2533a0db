"""Where to look: tissue, regions of interest, and the plan of patches over them; no pixels of patches."""
