// The slide and its heatmap in OpenSeadragon. Coordinates are "shown" pixels: full resolution, from the corner
// of the picture. OpenSeadragon's own unit is the picture's width.

/* global OpenSeadragon */

const KEY_STEP = 0.1; // of the window, per arrow key

export class Stage {
  #heatmap = null;
  #coming = null;
  #opacity = 0.7;

  constructor(host, facts, address) {
    this.facts = facts;
    this.address = address;
    this.viewer = OpenSeadragon({
      element: host,
      drawer: "canvas",
      showNavigationControl: false,
      showNavigator: true,
      navigatorPosition: "TOP_LEFT",
      navigatorMaintainSizeRatio: true,
      navigatorSizeRatio: 0.16,
      keyboardNavEnabled: false, // the page has keys of its own
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      maxZoomPixelRatio: 4,
      minZoomImageRatio: 0.6,
      visibilityRatio: 0.4,
      animationTime: 0.4,
      springStiffness: 10,
      imageLoaderLimit: 6,
      maxImageCacheCount: 600,
    });
    this.viewer.navigator.element.classList.add("overview");
    if (!facts.slide_error) this.viewer.addTiledImage({ tileSource: this.#slideSource(), width: 1 });
    this.viewer.addOnceHandler("tile-drawn", () => this.home());
  }

  /** Shows a layer of a class where the probability is at least `hideBelow`. The old one stays until it is there. */
  showHeatmap(layer, classIndex, hideBelow) {
    const { viewer } = this;
    if (this.#coming) viewer.world.removeItem(this.#coming);
    this.#coming = null;
    const wanted = `${layer}/${classIndex}/${hideBelow}`;
    this.wanted = wanted;
    viewer.addTiledImage({
      tileSource: this.#heatmapSource(layer, classIndex, hideBelow),
      width: 1,
      opacity: 0,
      preload: true,
      success: ({ item }) => {
        if (this.wanted !== wanted) {
          viewer.world.removeItem(item);
          return;
        }
        this.#coming = item;
        const take = () => this.#take(item);
        if (item.getFullyLoaded()) take();
        else item.addOnceHandler("fully-loaded-change", take);
      },
    });
  }

  #take(item) {
    if (this.#coming !== item) return;
    this.#coming = null;
    item.setOpacity(this.#opacity);
    if (this.#heatmap) this.viewer.world.removeItem(this.#heatmap);
    this.#heatmap = item;
  }

  setOpacity(opacity) {
    this.#opacity = opacity;
    this.#heatmap?.setOpacity(opacity);
  }

  /** Where a point of the picture lies in the window, in CSS pixels. */
  toWindow(x, y) {
    const { width } = this.facts;
    return this.viewer.viewport.viewportToViewerElementCoordinates(new OpenSeadragon.Point(x / width, y / width));
  }

  /** Calls back with the shown pixel that was clicked, where it lies on the picture. */
  onClick(callback) {
    const { width, height } = this.facts;
    this.viewer.addHandler("canvas-click", (event) => {
      if (!event.quick) return;
      const point = this.viewer.viewport.pointFromPixel(event.position).times(width);
      if (point.x >= 0 && point.y >= 0 && point.x < width && point.y < height) callback(point.x, point.y);
    });
  }

  home() {
    this.viewer.viewport.goHome(true);
  }

  zoom(factor) {
    this.viewer.viewport.zoomBy(factor).applyConstraints();
  }

  move(right, down) {
    const { viewport } = this.viewer;
    const step = viewport.getBounds().width * KEY_STEP;
    viewport.panBy(new OpenSeadragon.Point(right * step, down * step)).applyConstraints();
  }

  /** Brings a box into the middle of the window, with what lies around it. */
  lookAt([left, top, right, bottom]) {
    const { width } = this.facts;
    const margin = 0.75 * Math.max(right - left, bottom - top);
    this.viewer.viewport.fitBoundsWithConstraints(new OpenSeadragon.Rect(
      (left - margin) / width, (top - margin) / width,
      (right - left + 2 * margin) / width, (bottom - top + 2 * margin) / width,
    ));
  }

  #slideSource() {
    const { version, tiles } = this.facts;
    return this.#source(tiles.max_level, (level, column, row) =>
      `${this.address}/slide_files/${level}/${column}_${row}.jpg?v=${version}`);
  }

  #heatmapSource(layer, classIndex, hideBelow) {
    const { version, tiles } = this.facts;
    const address = `${this.address}/heatmap/${layer}/${classIndex}`;
    return this.#source(tiles.finest_heatmap_level, (level, column, row) =>
      `${address}/${level}/${column}_${row}.png?hide=${hideBelow}&v=${version}`);
  }

  // Levels of halves of the whole picture; of a heatmap the finest are left to enlargement.
  #source(maxLevel, getTileUrl) {
    const { width, height, tiles } = this.facts;
    return {
      width,
      height,
      tileSize: tiles.size,
      tileOverlap: tiles.overlap,
      minLevel: Math.min(tiles.min_level, maxLevel),
      maxLevel,
      getLevelScale: (level) => 2 ** (level - tiles.max_level),
      getTileUrl,
    };
  }
}
