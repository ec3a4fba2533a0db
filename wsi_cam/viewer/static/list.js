// The list of slides: ranked by slide score; below it what has no result, and why.

import { byId, element, fetchJson, fixed } from "./page.js";

function picture(slide, name) {
  const address = `/api/slides/${slide.address}/thumbnail/${name}?v=${slide.version}`;
  const image = element("img", { src: address, alt: "", loading: "lazy" });
  image.addEventListener("error", () => image.remove());
  return image;
}

function cell(text, className = "") {
  return element("td", { className }, text == null || text === "" ? "–" : String(text));
}

function doneRow(slide, rank) {
  const address = `/slides/${slide.address}`;
  const thumbnail = element(
    "a", { className: "thumbnail", href: address, tabIndex: -1, ariaHidden: "true" },
    picture(slide, "slide.jpg"), picture(slide, "heatmap.png"),
  );
  const name = element("td", {}, element("a", { className: "name", href: address }, slide.id));
  if (slide.error) name.append(element("div", { className: "small warning" }, `The last run: ${slide.error}`));
  const filled = element("div");
  filled.style.width = `${100 * slide.score}%`;
  const score = element(
    "td", { className: "score" },
    element("div", { className: "score-bar" }, filled),
    `${fixed(slide.score, 3)} `, element("span", { className: "muted" }, slide.class),
  );
  return element(
    "tr", {},
    cell(rank, "number"), element("td", {}, thumbnail), name, score,
    cell(slide.tissue_mm2 == null ? null : fixed(slide.tissue_mm2, 2), "number"),
    cell(slide.patches, "number"), cell(slide.unread, slide.unread ? "number warning" : "number"),
    cell(slide.patient, "patient"), cell(slide.label, "label"),
  );
}

function otherRow(slide) {
  return element(
    "tr", {},
    element("td", { className: "name" }, slide.id),
    cell(slide.status, slide.status === "failed" ? "warning" : ""), cell(slide.error),
  );
}

function show(listing) {
  document.title = `${listing.run} - wsi_cam`;
  byId("run").textContent = `Slides of ${listing.run}`;
  const rows = listing.done.map((slide, index) => [
    `${slide.id} ${slide.patient} ${slide.label}`.toLowerCase(), doneRow(slide, index + 1),
  ]);
  byId("done").tBodies[0].append(...rows.map(([, row]) => row));
  byId("done").hidden = rows.length === 0;
  for (const name of ["patient", "label"]) {
    byId("done").classList.toggle(`no-${name}`, listing.done.every((slide) => !slide[name]));
  }
  byId("others").querySelector("tbody").append(...listing.others.map(otherRow));
  byId("others").hidden = listing.others.length === 0;
  const count = () => {
    const wanted = byId("filter").value.trim().toLowerCase();
    let shown = 0;
    for (const [words, row] of rows) {
      row.hidden = !words.includes(wanted);
      if (!row.hidden) shown += 1;
    }
    const others = listing.others.length ? `, ${listing.others.length} without a result` : "";
    byId("count").textContent = `${shown} of ${rows.length} done${others}`;
  };
  byId("filter").addEventListener("input", count);
  count();
}

try {
  show(await fetchJson("/api/slides"));
} catch (error) {
  byId("message").textContent = error.message;
  byId("message").hidden = false;
}
