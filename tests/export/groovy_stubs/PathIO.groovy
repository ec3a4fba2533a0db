package qupath.lib.io

import stage.PathObject

class PathIO {
    static List<PathObject> readObjects(File file) {
        def stream = file.newInputStream()
        def plain = file.name.endsWith('.gz') ? new java.util.zip.GZIPInputStream(stream) : stream
        def content = plain.withStream { new groovy.json.JsonSlurper().parse(it, 'UTF-8') }
        content.features.collect {
            new PathObject(id: UUID.fromString(it.id), pathClass: it.properties.classification?.name,
                    annotation: it.properties.objectType == 'annotation')
        }
    }
}
