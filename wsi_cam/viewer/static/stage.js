// The slide and its heatmap in OpenSeadragon. Coordinates are "shown" pixels: full resolution, from the corner
// of the picture. OpenSeadragon's own unit is the picture's width.

/* global OpenSeadragon */

const KEY_STEP = 0.1; // of the window, per arrow key

/** What is shown of one kind, replaced without a gap: the old picture stays until the new one is there. */
class Layer {
  item = null;
  opacity = 1;
  #coming = null;
  #asked = 0;

  constructor(index) {
    this.index = index;
  }

  replace(viewer, tileSource) {
    this.#asked += 1;
    const mine = this.#asked;
    if (this.#coming) viewer.world.removeItem(this.#coming);
    this.#coming = null;
    viewer.addTiledImage({
      tileSource,
      width: 1,
      opacity: 0,
      preload: true,
      index: this.item ? viewer.world.getIndexOfItem(this.item) + 1 : this.index,
      success: ({ item }) => {
        if (mine !== this.#asked) {
          viewer.world.removeItem(item); // something else was asked for in the meantime
          return;
        }
        this.#coming = item;
        if (item.getFullyLoaded()) this.#take(viewer, item);
        else item.addOnceHandler("fully-loaded-change", () => this.#take(viewer, item));
      },
    });
  }

  #take(viewer, item) {
    if (this.#coming !== item) return;
    this.#coming = null;
    item.setOpacity(this.opacity);
    if (this.item) viewer.world.removeItem(this.item);
    this.item = item;
  }
}

export class Stage {
  #layers = { slide: new Layer(0), heatmap: new Layer(1) };

  constructor(host, facts, address) {
    keepOwnStyleOut();
    this.facts = facts;
    this.address = address;
    this.viewer = OpenSeadragon({
      element: host,
      drawer: "canvas",
      showNavigationControl: false,
      showNavigator: true,
      navigatorAutoFade: false,
      navigatorPosition: "TOP_LEFT",
      navigatorMaintainSizeRatio: true,
      navigatorSizeRatio: 0.16,
      navigatorDisplayRegionColor: "#0b5cad",
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
    // Where the slide is gone its place still gives the picture its size; at opacity 0 no tile is asked for.
    this.#layers.slide.opacity = facts.slide_error ? 0 : 1;
    this.viewer.addOnceHandler("open", () => {
      this.#layers.slide.item = this.viewer.world.getItemAt(0);
    });
    this.viewer.open({ tileSource: this.#slideSource(false), width: 1, opacity: this.#layers.slide.opacity });
  }

  showSlide(grey) {
    if (!this.facts.slide_error) this.#layers.slide.replace(this.viewer, this.#slideSource(grey));
  }

  /** Shows a layer of a class where the probability is at least `hideBelow`. */
  showHeatmap(layer, classIndex, hideBelow) {
    this.#layers.heatmap.replace(this.viewer, this.#heatmapSource(layer, classIndex, hideBelow));
  }

  setOpacity(opacity) {
    this.#layers.heatmap.opacity = opacity;
    this.#layers.heatmap.item?.setOpacity(opacity);
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
    const margin = 0.25 * Math.max(right - left, bottom - top);
    this.viewer.viewport.fitBoundsWithConstraints(new OpenSeadragon.Rect(
      (left - margin) / width, (top - margin) / width,
      (right - left + 2 * margin) / width, (bottom - top + 2 * margin) / width,
    ));
  }

  #slideSource(grey) {
    const { version, tiles } = this.facts;
    return this.#source(tiles.max_level, (level, column, row) =>
      `${this.address}/slide_files/${level}/${column}_${row}.jpg?v=${version}${grey ? "&grey=1" : ""}`);
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

/**
 * OpenSeadragon adds a style element (its rule is in style.css), which the page's security policy forbids, unless it
 * finds one with this attribute. An element of that name that is none of HTML's will do.
 */
function keepOwnStyleOut() {
  const marker = document.createElementNS("urn:marker", "style");
  marker.setAttribute("data-openseadragon-mobile-css", "");
  document.head.append(marker);
}
