"use strict";
// The table's rows are the only state: what is shown, and in which order, is read from them.

const table = document.getElementById("table");
const rows = [...table.tBodies[0].rows];
const failures = [...document.querySelectorAll(".failure")];
const panel = document.getElementById("panel");
const filters = document.querySelector(".filters");
let opened = null; // the row whose panel is open

// Sorting: numbers within names count as numbers; equals stay in the order of ranks.

const language = new Intl.Collator("en", { numeric: true });

function sortBy(heading) {
  const was = heading.getAttribute("aria-sort");
  const first = heading.classList.contains("text") || heading.cellIndex === 0 ? "ascending" : "descending";
  const second = first === "ascending" ? "descending" : "ascending";
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", was === first ? second : first);
  const sign = heading.getAttribute("aria-sort") === "ascending" ? 1 : -1;
  const value = (row) => row.cells[heading.cellIndex].dataset.value;
  const compare = heading.classList.contains("text")
    ? (a, b) => sign * language.compare(a, b)
    : (a, b) => sign * (a - b);
  rows.sort((a, b) => compare(value(a), value(b)) || a.cells[0].dataset.value - b.cells[0].dataset.value);
  table.tBodies[0].append(...rows);
}

for (const button of table.querySelectorAll(".sort")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

// Filtering: every word that is searched for must be found; choices must match.

function chosen(id) {
  return document.getElementById(id)?.value ?? "";
}

function filter() {
  const words = chosen("find").toLowerCase().split(/\s+/).filter(Boolean);
  const says = (element) => words.every((word) => element.dataset.text.includes(word));
  const [call, label, size] = [chosen("call"), chosen("label"), chosen("size")];
  for (const row of rows) {
    row.hidden = !(
      says(row) &&
      (!call || row.dataset.call.split(" ").includes(call)) &&
      (!label || row.dataset.label === label) &&
      (!size || row.dataset.size === size)
    );
  }
  for (const failure of failures) failure.hidden = !says(failure);
  const shown = visible().length;
  const others = failures.filter((failure) => !failure.hidden).length;
  document.getElementById("count").value =
    `${shown} of ${rows.length} slides` + (failures.length ? `, ${others} of ${failures.length} failed` : "");
}

function visible() {
  return rows.filter((row) => !row.hidden);
}

filters.addEventListener("input", filter);
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", () => setTimeout(filter));

// The panel of a slide: its template is filled in when it is opened, so that its pictures are read only then.

function open(row) {
  const template = document.querySelector(`template[data-panel="${CSS.escape(row.dataset.slide)}"]`);
  document.getElementById("panel-content").replaceChildren(template.content.cloneNode(true));
  opened = row;
  const shown = visible();
  const place = shown.indexOf(row);
  document.getElementById("previous").disabled = place <= 0;
  document.getElementById("next").disabled = place < 0 || place === shown.length - 1;
  document.getElementById("place").textContent = place < 0 ? "" : `${place + 1} of ${shown.length} shown`;
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  history.replaceState(null, "", "#slide=" + encodeURIComponent(row.dataset.slide));
}

function step(by) {
  const shown = visible();
  const row = shown[shown.indexOf(opened) + by];
  if (opened && row) open(row);
}

function rowOf(sampleId) {
  return rows.find((row) => row.dataset.slide === sampleId);
}

document.getElementById("previous").addEventListener("click", () => step(-1));
document.getElementById("next").addEventListener("click", () => step(1));
document.getElementById("close").addEventListener("click", () => panel.close());
panel.addEventListener("click", (event) => {
  if (event.target === panel) panel.close(); // beside the panel
});
panel.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
panel.addEventListener("close", () => {
  history.replaceState(null, "", location.pathname + location.search);
  opened?.querySelector(".open").focus();
  opened = null;
});
table.addEventListener("click", (event) => {
  if (event.target.closest(".open, .picture")) open(event.target.closest("tr"));
});
document.addEventListener("click", (event) => {
  const dot = event.target.closest("circle[data-slide]");
  if (dot) open(rowOf(dot.dataset.slide));
});

function openAsked() {
  const asked = location.hash.startsWith("#slide=") && rowOf(decodeURIComponent(location.hash.slice(7)));
  if (asked) open(asked);
}

filter();
addEventListener("hashchange", openAsked); // an address put into the tab that shows the page already
openAsked();
