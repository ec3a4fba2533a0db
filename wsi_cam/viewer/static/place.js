// The numbers of the place that was clicked.

import { element, fixed } from "./page.js";

const row = (tag, ...texts) =>
  element("tr", {}, ...texts.map((text, i) => element(tag, { className: i ? "number" : "" }, text)));

/** What the server said of a place, as elements: each patch that covers it, then the heatmap there. */
export function placeElements(numbers, classes) {
  const [x, y] = numbers.level0.map(Math.floor);
  const parts = [element("h2", {}, `At ${x}, ${y} px of level 0`)];
  const seen = numbers.patches.filter((patch) => patch.status === "ok");
  const unread = numbers.patches.length - seen.length;
  if (numbers.patches.length === 0) parts.push(note("No patch covers this place: nothing was classified here."));
  if (unread) parts.push(note(`${unread === 1 ? "A patch" : `${unread} patches`} here could not be read.`, "warning"));
  parts.push(...heatmapTable(numbers.heatmap, classes));
  const shown = seen.slice(0, 9);
  for (const patch of shown) parts.push(...patchTable(patch, classes));
  if (seen.length > shown.length) parts.push(note(`and ${seen.length - shown.length} patches more`));
  return parts;
}

function heatmapTable(heatmap, classes) {
  if (classes.every(({ name }) => heatmap.probability[name] == null)) return [];
  return [element(
    "table", {},
    row("th", "Heatmap", "probability", "evidence"),
    ...classes.map(({ name }) => row("td", name, fixed(heatmap.probability[name], 3), fixed(heatmap.evidence[name], 2))),
  )];
}

function patchTable(patch, classes) {
  const place = patch.level0.map((value) => Math.round(value)).join(", ");
  return [element(
    "table", { title: `${Math.round(patch.tissue * 100)} % tissue; evidence in logits: mean and highest` },
    row("th", `Patch ${place}`, "prob.", "ev. mean", "max"),
    ...classes.map(({ name }) => {
      const of = patch.classes[name];
      return row("td", name, fixed(of.probability, 3), fixed(of.evidence_mean, 2), fixed(of.evidence_max, 2));
    }),
  )];
}

function note(text, kind = "muted") {
  return element("p", { className: `small ${kind}` }, text);
}
