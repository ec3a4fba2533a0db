package qupath.lib.regions

class ImageRegion {
    int x, y, width, height

    static ImageRegion createInstance(int x, int y, int width, int height, int z, int t) {
        new ImageRegion(x: x, y: y, width: width, height: height)
    }
}
