/*
 * wsi_cam: colours the patches of the slide that is open by one of their measurements, over a fixed range.
 *
 * Import the patches first (import_results.groovy). The same can be done by hand, with other ranges, in
 * Measure > Show measurement maps, which also takes the colours away again.
 * Words: docs/qupath.md of wsi_cam. Works in QuPath 0.4 and later.
 */
import com.google.gson.Gson
import javafx.application.Platform
import qupath.lib.color.ColorMaps
import qupath.lib.gui.tools.MeasurementMapper

// Name of a measurement, such as 'prob_tumour' or 'evidence_max_tumour'; null: the probability of the class
// that the run looked for.
def MEASUREMENT = null

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
def list = new File(projectFolder, "../slides/${sample}/qupath/heatmaps.json")
if (sample == null || !list.isFile()) {
    println "${entry.getImageName()}: no results of wsi_cam beside the project; export the format qupath again"
    return
}
def measurements = new Gson().fromJson(list.getText('UTF-8'), Map)['measurements']
def chosen = measurements.find { MEASUREMENT == null || it['name'] == MEASUREMENT }
if (chosen == null) {
    println "No measurement ${MEASUREMENT}; there are: ${measurements.collect { it['name'] }.join(', ')}"
    return
}
def tiles = getCurrentImageData().getHierarchy().getTileObjects()
if (tiles.isEmpty()) {
    println 'No patches on this slide: run import_results.groovy first'
    return
}

def name = chosen['name'].toString()
def colourMap = ColorMaps.getColorMaps().get(chosen['colour_map'].toString()) ?: ColorMaps.getDefaultColorMap()
def mapper = new MeasurementMapper(colourMap, name, tiles)
mapper.setDisplayMinValue(chosen['low'] as double)
mapper.setDisplayMaxValue(chosen['high'] as double)
Platform.runLater {
    def options = viewer.getOverlayOptions()
    options.setShowDetections(true)
    options.setFillDetections(true)
    options.setMeasurementMapper(mapper)
}
println "Colouring ${tiles.size()} patches by ${name}, ${chosen['low']} to ${chosen['high']}"
