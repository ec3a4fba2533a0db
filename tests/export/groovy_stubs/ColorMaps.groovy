package qupath.lib.color

class ColorMaps {
    static class ColorMap {
        String name
    }

    static Map<String, ColorMap> getColorMaps() {
        ['Inferno', 'Jet', 'Magma', 'Plasma', 'Viridis'].collectEntries { [(it): new ColorMap(name: it)] }
    }

    static ColorMap getDefaultColorMap() { throw new IllegalStateException('a colour map was not found') }
}
