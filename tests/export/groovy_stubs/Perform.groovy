// Runs scripts as QuPath's editor does, on a project file, and prints what they did as JSON.
// Arguments: project.qpproj, number of the entry that is open, scripts.
import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import stage.Entry
import stage.Happened
import stage.Project
import stage.Viewer

def file = new File(args[0])
def entries = new JsonSlurper().parse(file, 'UTF-8').images.collect {
    new Entry(id: it.entryID.toString(), imageName: it.imageName)
}
def open = entries.find { it.id == args[1] }
def project = new Project(file: file, entries: entries)
def viewer = new Viewer()
def told = new StringWriter()
def binding = new Binding(
        getProject: { -> project },
        getProjectEntry: { -> open },
        getCurrentImageData: { -> open.data },
        getCurrentViewer: { -> viewer },
        out: new PrintWriter(told, true))
args.drop(2).each {
    Happened.add([script: new File(it).name])
    new GroovyShell(binding).evaluate(new File(it))
}
println JsonOutput.toJson([events: Happened.events, told: told.toString()])
