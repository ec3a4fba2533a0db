// Regions and the patches of the place that was clicked, drawn as lines over the slide.

const OUTLINE_WIDTH = 2; // CSS pixels
const PATCH_COLOUR = "#0b5cad";
const PATCH_WIDTH = 1.5;

export class Outlines {
  #stage;
  #canvas = document.createElement("canvas");
  #regions = [];
  #colour = "#000000";
  #patches = [];
  #place = null;

  constructor(stage) {
    this.#stage = stage;
    this.#canvas.className = "outlines";
    stage.viewer.canvas.append(this.#canvas);
    for (const event of ["update-viewport", "resize", "open", "animation"]) {
      stage.viewer.addHandler(event, () => this.draw());
    }
  }

  /** Regions as the server gives them, each with its box added; none to draw nothing. */
  setRegions(regions, colour) {
    this.#regions = regions.map((region) => ({ box: region.box, path: pathOf(region.rings) }));
    this.#colour = colour;
    this.draw();
  }

  /** Boxes (x, y, width, height) of patches, and the point that was clicked. */
  setPlace(patches, place) {
    this.#patches = patches;
    this.#place = place;
    this.draw();
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.#canvas;
    const width = Math.round(clientWidth * ratio);
    const height = Math.round(clientHeight * ratio);
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      Object.assign(this.#canvas, { width, height });
    }
    const pen = this.#canvas.getContext("2d");
    pen.resetTransform();
    pen.clearRect(0, 0, width, height);
    if (!this.#stage.viewer.viewport) return;
    const corner = this.#stage.toWindow(0, 0);
    const scale = (this.#stage.toWindow(this.#stage.facts.width, 0).x - corner.x) / this.#stage.facts.width;
    pen.setTransform(scale * ratio, 0, 0, scale * ratio, corner.x * ratio, corner.y * ratio);
    const seen = [-corner.x / scale, -corner.y / scale, (clientWidth - corner.x) / scale, (clientHeight - corner.y) / scale];
    // A pale line beneath the coloured one stands out from tissue of any colour.
    const twice = (colour, width, draw) => {
      for (const [style, extra] of [["rgb(255 255 255 / 80%)", 2], [colour, 0]]) {
        pen.strokeStyle = style;
        pen.lineWidth = (width + extra) / scale;
        draw();
      }
    };
    twice(this.#colour, OUTLINE_WIDTH, () => {
      for (const { box, path } of this.#regions) if (overlaps(box, seen)) pen.stroke(path);
    });
    twice(PATCH_COLOUR, PATCH_WIDTH, () => {
      pen.setLineDash([6 / scale, 4 / scale]);
      for (const box of this.#patches) pen.strokeRect(...box);
      pen.setLineDash([]);
      if (this.#place) cross(pen, this.#place, 7 / scale);
    });
  }
}

function cross(pen, [x, y], arm) {
  pen.beginPath();
  pen.moveTo(x - arm, y);
  pen.lineTo(x + arm, y);
  pen.moveTo(x, y - arm);
  pen.lineTo(x, y + arm);
  pen.stroke();
}

/** The box (left, top, right, bottom) around a region; its first ring is the outer one. */
export function boxAround([outer]) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < outer.length; i += 2) {
    box[0] = Math.min(box[0], outer[i]);
    box[1] = Math.min(box[1], outer[i + 1]);
    box[2] = Math.max(box[2], outer[i]);
    box[3] = Math.max(box[3], outer[i + 1]);
  }
  return box;
}

function pathOf(rings) {
  const path = new Path2D();
  for (const ring of rings) {
    path.moveTo(ring[0], ring[1]);
    for (let i = 2; i < ring.length; i += 2) path.lineTo(ring[i], ring[i + 1]);
    path.closePath();
  }
  return path;
}

function overlaps(box, seen) {
  return box[0] < seen[2] && box[2] > seen[0] && box[1] < seen[3] && box[3] > seen[1];
}
