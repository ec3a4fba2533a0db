/*
 * wsi_cam: brings regions and patches of every slide into this QuPath project.
 *
 * Run it once (Run, not "Run for project"); it goes through all images by itself. It can be run again
 * after another export: what an earlier import brought is replaced, what you drew yourself stays.
 * Words: docs/qupath.md of wsi_cam. Works in QuPath 0.4 and later.
 */
import com.google.gson.Gson
import qupath.lib.io.PathIO

def IMPORT_REGIONS = true
def IMPORT_PATCHES = true

def project = getProject()
if (project == null) {
    println 'Open the project first: File > Project... > Open project, qupath/project.qpproj of the results'
    return
}
def projectFolder = project.getPath().toFile().getParentFile()
def results = new Gson().fromJson(new File(projectFolder, 'results.json').getText('UTF-8'), Map)
def openEntry = getProjectEntry()
def slides = 0

for (entry in project.getImageList()) {
    def sample = results['samples'][entry.getID()]
    if (sample == null) {
        println "${entry.getImageName()}: not a slide of these results, left alone"
        continue
    }
    def folder = new File(projectFolder, "../slides/${sample}/qupath")
    def names = (IMPORT_REGIONS ? ['regions.geojson', 'regions.geojson.gz'] : []) +
            (IMPORT_PATCHES ? ['patches.geojson', 'patches.geojson.gz'] : [])
    def files = names.collect { new File(folder, it.toString()) }.findAll { it.isFile() }
    if (files.isEmpty()) {
        println "${entry.getImageName()}: nothing to import in ${folder.getCanonicalPath()}"
        continue
    }
    // The image on the screen has its data in memory; a copy read from disk would be lost when that is saved.
    def isOpen = openEntry != null && openEntry.getID() == entry.getID()
    def imageData = isOpen ? getCurrentImageData() : entry.readImageData()
    def hierarchy = imageData.getHierarchy()
    def objects = files.collectMany { PathIO.readObjects(it) }
    def ids = objects.collect { it.getID() } as Set
    // Ids from an export derive from their content (UUID version 5); QuPath gives random ones (version 4) to
    // what is drawn, so that a user's own object of a "(model)" class is not taken for ours.
    def earlier = (hierarchy.getAnnotationObjects() + hierarchy.getTileObjects()).findAll {
        ids.contains(it.getID()) ||
                (it.getID().version() == 5 && String.valueOf(it.getPathClass()).endsWith(' (model)'))
    }
    hierarchy.removeObjects(earlier, true)
    hierarchy.addObjects(objects)
    entry.saveImageData(imageData)
    if (!isOpen) {
        imageData.getServer().close()
    }
    slides++
    println "${entry.getImageName()}: ${objects.size()} objects from ${files.collect { it.getName() }.join(', ')}"
}
project.syncChanges()
println "Results of ${slides} slides are in the project"
