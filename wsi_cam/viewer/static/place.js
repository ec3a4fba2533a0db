// The numbers of the place that was clicked.

import { element, fixed } from "./page.js";

const row = (tag, ...texts) =>
  element("tr", {}, ...texts.map((text, i) => element(tag, { className: i ? "number" : "" }, text)));

/** What the server said of a place, as elements: the heatmap there, and `className` in each patch over it. */
export function placeElements(numbers, classes, className) {
  const [x, y] = numbers.level0.map(Math.floor);
  const parts = [element("h2", {}, `At ${x}, ${y} px of level 0`)];
  const seen = numbers.patches.filter((patch) => patch.status === "ok");
  const unread = numbers.patches.length - seen.length;
  if (numbers.patches.length === 0) parts.push(note("No patch covers this place: nothing was classified here."));
  if (unread) parts.push(note(`${unread === 1 ? "A patch" : `${unread} patches`} here could not be read.`, "warning"));
  parts.push(...heatmapTable(numbers.heatmap, classes));
  if (seen.length) parts.push(patchTable(seen, className));
  return parts;
}

function heatmapTable(heatmap, classes) {
  if (classes.every(({ name }) => heatmap.probability[name] == null)) return [];
  return [element(
    "table", {},
    row("th", "heatmap", "probability", "evidence"),
    ...classes.map(({ name }) => row("td", name, fixed(heatmap.probability[name], 3), fixed(heatmap.evidence[name], 2))),
  )];
}

function patchTable(patches, className) {
  const rows = patches.map((patch) => {
    const of = patch.classes[className];
    const place = patch.level0.map((value) => Math.round(value)).join(", ");
    const made = row("td", place, fixed(of.probability, 3), fixed(of.evidence_mean, 2), fixed(of.evidence_max, 2));
    made.title = `${Math.round(patch.tissue * 100)} % tissue; evidence in logits`;
    return made;
  });
  return element(
    "table", {},
    element("caption", {}, `${className} in the patch${patches.length > 1 ? "es" : ""} over this place`),
    row("th", "at px", "prob.", "ev. mean", "ev. max"), ...rows,
  );
}

function note(text, kind = "muted") {
  return element("p", { className: `small ${kind}` }, text);
}
