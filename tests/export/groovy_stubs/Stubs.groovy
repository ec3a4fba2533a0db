// Stand-ins for what the scripts use of QuPath and JavaFX: the same names and signatures, no more.
// They remember what was done, so that a test can ask.
package stage

/** What the scripts did, in order. */
class Happened {
    static List<Map> events = []

    static void add(Map event) { events << event }
}

class PathObject {
    UUID id
    String pathClass
    boolean annotation

    UUID getID() { id }

    String getPathClass() { pathClass }
}

class Hierarchy {
    List<PathObject> objects = []

    Collection<PathObject> getAnnotationObjects() { objects.findAll { it.annotation } }

    Collection<PathObject> getTileObjects() { objects.findAll { !it.annotation } }

    boolean addObjects(Collection<PathObject> added) { objects.addAll(added) }

    void removeObjects(Collection<PathObject> removed, boolean keepChildren) { objects.removeAll(removed) }
}

class Server {
    void close() { Happened.add([closed: true]) }
}

class ImageData {
    Hierarchy hierarchy = new Hierarchy()

    Server getServer() { new Server() }
}

class Entry {
    String id
    String imageName
    ImageData data = new ImageData()

    String getID() { id }

    ImageData readImageData() { data }

    void saveImageData(ImageData saved) {
        data = saved
        def objects = saved.hierarchy
        Happened.add([saved: id, annotations: objects.annotationObjects.size(), tiles: objects.tileObjects.size()])
    }
}

class Project {
    File file
    List<Entry> entries

    java.nio.file.Path getPath() { file.toPath() }

    List<Entry> getImageList() { entries }

    void syncChanges() { Happened.add([synced: true]) }
}

class OverlayOptions {
    void setShowPixelClassification(boolean show) { Happened.add([showPixelClassification: show]) }

    void setShowDetections(boolean show) { Happened.add([showDetections: show]) }

    void setFillDetections(boolean fill) { Happened.add([fillDetections: fill]) }

    void setMeasurementMapper(qupath.lib.gui.tools.MeasurementMapper mapper) {
        Happened.add([measurement: mapper.measurement, map: mapper.map, low: mapper.low, high: mapper.high])
    }
}

class Layers {
    boolean setAll(qupath.lib.gui.viewer.overlays.BufferedImageOverlay overlay) {
        overlay.regions.each { region, image ->
            def colour = image.getRGB(image.width.intdiv(2), image.height.intdiv(2))
            Happened.add([region: [region.x, region.y, region.width, region.height],
                          image: [image.width, image.height], alpha: (colour >> 24) & 255])
        }
        true
    }
}

class Viewer {
    OverlayOptions overlayOptions = new OverlayOptions()
    Layers customOverlayLayers = new Layers()

    int getZPosition() { 0 }

    int getTPosition() { 0 }
}
