/*
 * wsi_cam: lays a heatmap over the slide that is open, semi-transparent, where it belongs.
 *
 * The colours are those of the legend in overview.png: a fixed range, the same on every slide. The lower a
 * value, the more transparent it is; where no patch was classified nothing is drawn. Key C hides and shows
 * it ("Show pixel classification"). It goes when another slide is opened; run the script again there.
 * Words: docs/qupath.md of wsi_cam. Works in QuPath 0.4 and later.
 */
import com.google.gson.Gson
import java.awt.AlphaComposite
import java.awt.image.BufferedImage
import javafx.application.Platform
import javax.imageio.ImageIO
import qupath.lib.gui.viewer.overlays.BufferedImageOverlay
import qupath.lib.regions.ImageRegion

// Which one: a class of the model (null: the one that the run looked for), and probability or evidence.
def CLASS = null
def LAYER = 'probability'
// How strongly the highest values cover the slide, 0 to 1.
def OPACITY = 0.6f

def project = getProject()
def entry = getProjectEntry()
def viewer = getCurrentViewer()
if (project == null || entry == null || viewer == null) {
    println 'Open a slide of the project first'
    return
}
def projectFolder = project.getPath().toFile().getParentFile()
def results = new Gson().fromJson(new File(projectFolder, 'results.json').getText('UTF-8'), Map)
def sample = results['samples'][entry.getID()]
def folder = new File(projectFolder, "../slides/${sample}/qupath")
def list = new File(folder, 'heatmaps.json')
if (sample == null || !list.isFile()) {
    println "${entry.getImageName()}: no heatmaps in ${folder.getCanonicalPath()}; export the format qupath again"
    return
}
def heatmaps = new Gson().fromJson(list.getText('UTF-8'), Map)['heatmaps']
def heatmap = heatmaps.find { it['layer'] == LAYER && (CLASS == null || it['class'] == CLASS) }
if (heatmap == null) {
    println "No ${LAYER} of ${CLASS}; there are: ${heatmaps.collect { it['title'] }.join(', ')}"
    return
}

def colours = ImageIO.read(new File(folder, heatmap['file'].toString()))
def faded = new BufferedImage(colours.getWidth(), colours.getHeight(), BufferedImage.TYPE_INT_ARGB)
def graphics = faded.createGraphics()
graphics.setComposite(AlphaComposite.getInstance(AlphaComposite.SRC_OVER, OPACITY as float))
graphics.drawImage(colours, 0, 0, null)
graphics.dispose()

// Full-resolution pixels of the slide as QuPath shows it; the slide's bounds are taken off already.
def region = ImageRegion.createInstance(
        heatmap['x'] as int, heatmap['y'] as int, heatmap['width'] as int, heatmap['height'] as int,
        viewer.getZPosition(), viewer.getTPosition())
def overlay = new BufferedImageOverlay(viewer, [(region): faded])
Platform.runLater {
    viewer.getOverlayOptions().setShowPixelClassification(true)
    viewer.getCustomOverlayLayers().setAll(overlay)
}
println "Showing ${heatmap['title']}: full colour at ${heatmap['high']}, transparent at ${heatmap['low']}"
