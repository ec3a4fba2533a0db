package qupath.lib.gui.tools

import qupath.lib.color.ColorMaps
import stage.PathObject

class MeasurementMapper {
    String map, measurement
    double low, high

    MeasurementMapper(ColorMaps.ColorMap map, String measurement, Collection<? extends PathObject> objects) {
        this.map = map.name
        this.measurement = measurement
    }

    void setDisplayMinValue(double value) { low = value }

    void setDisplayMaxValue(double value) { high = value }
}
