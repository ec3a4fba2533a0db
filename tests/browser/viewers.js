// Shows each file that panels.json lists in a viewer and sends what it drew back to the server.
import { Deck, OrthographicView } from "@deck.gl/core";
import { MultiscaleImageLayer } from "@vivjs/layers";
import { loadOmeTiff, loadOmeZarr } from "@vivjs/loaders";
import { getMultiscaleWithArray, renderImage } from "ome-zarr.js";

const WIDTH = 400, HEIGHT = 320;

/** Viv: every level by WebGL; resolves with a PNG once all tiles of the view are drawn. */
async function viv({ url, kind, channel, colour, limits }, place) {
  const loaded = kind === "tiff" ? await loadOmeTiff(url) : await loadOmeZarr(url, { type: "multiscales" });
  const levels = Array.isArray(loaded.data) ? loaded.data : [loaded.data];
  const shape = Object.fromEntries(levels[0].labels.map((label, i) => [label, levels[0].shape[i]]));
  const zoom = Math.log2(Math.min(WIDTH / shape.x, HEIGHT / shape.y));
  const rgb = "_c" in shape;
  // A selection may name the file's own axes only.
  const plane = Object.fromEntries(Object.keys(shape).filter((axis) => "czt".includes(axis)).map((axis) => [axis, 0]));
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  place.append(canvas);
  const png = await new Promise((resolve, reject) => {
    let complete = false;
    const layer = new MultiscaleImageLayer({
      id: `image-#view#-${url}`,
      loader: levels,
      selections: [rgb ? plane : { ...plane, c: channel }],
      contrastLimits: [limits],
      colors: [colour],
      channelsVisible: [true],
      dtype: levels[0].dtype,
      onViewportLoad: () => { complete = true; },
      onTileError: reject,
    });
    const deck = new Deck({
      canvas, width: WIDTH, height: HEIGHT, useDevicePixels: false,
      views: [new OrthographicView({ id: "view", controller: false })],
      initialViewState: { target: [shape.x / 2, shape.y / 2, 0], zoom },
      layers: [layer],
      _animate: true,
      onError: reject,
      onAfterRender: () => {
        // The frame after the last tile came; what WebGL drew is there until this function ends.
        if (complete === true) { complete = performance.now(); return; }
        if (complete && performance.now() - complete > 150) {
          complete = false;
          const png = canvas.toDataURL("image/png");
          deck.setProps({ _animate: false });
          setTimeout(() => { deck.finalize(); resolve(png); });
        }
      },
    });
  });
  return { png, levels: levels.map((level) => level.shape), labels: levels[0].labels, facts: facts(loaded) };
}

/** Names and spacing as the viewer understood them. */
function facts({ metadata }) {
  const pixels = metadata.Pixels;
  if (!pixels) return { channels: metadata.omero.channels.map((channel) => channel.label) };
  return {
    channels: pixels.Channels.map((channel) => channel.Name ?? null),
    spacing: [pixels.PhysicalSizeX, pixels.PhysicalSizeY],
    unit: pixels.PhysicalSizeXUnit,
  };
}

/**
 * ome-zarr.js: the second level, coloured as the file's omero metadata say. Its renderThumbnail would take
 * the values' minimum and maximum in place of the file's window, and NaN makes that black.
 */
async function omeZarrJs({ url }, place) {
  const { arr, multiscale, omero } = await getMultiscaleWithArray(url, 1);
  const png = await renderImage(arr, multiscale.axes, omero);
  const image = document.createElement("img");
  image.src = png;
  place.append(image);
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  canvas.getContext("2d").drawImage(image, 0, 0);
  return { png: canvas.toDataURL("image/png") };
}

const panels = await (await fetch("panels.json")).json();
const results = [];
for (const panel of panels) {
  const place = document.createElement("figure");
  document.getElementById("panels").append(place);
  try {
    const show = panel.viewer === "viv" ? viv : omeZarrJs;
    const late = new Promise((_, reject) => setTimeout(() => reject(new Error("not drawn in time")), 20000));
    results.push({ name: panel.name, ...(await Promise.race([show(panel, place), late])) });
  } catch (error) {
    results.push({ name: panel.name, error: `${error?.message ?? error}\n${error?.stack ?? ""}` });
  }
}
await fetch("results", { method: "POST", body: JSON.stringify(results) });
