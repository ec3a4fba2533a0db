package qupath.lib.gui.viewer.overlays

import java.awt.image.BufferedImage
import qupath.lib.regions.ImageRegion

class BufferedImageOverlay {
    Map<ImageRegion, BufferedImage> regions

    BufferedImageOverlay(stage.Viewer viewer, Map<ImageRegion, BufferedImage> regions) { this.regions = regions }
}
