// The page of a slide: controls and keys, wired to the stage and its outlines.

import { Outlines, boxAround } from "./outlines.js";
import { byId, element, fetchJson, fixed } from "./page.js";
import { placeElements } from "./place.js";
import { keepScaleBar } from "./scale_bar.js";
import { Stage } from "./stage.js";

const address = `/api${location.pathname}`;
const number = (id) => Number(byId(id).value);
const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;

/** Calls of the returned function are put off until none has come for a moment. */
function afterAWhile(act, ms = 200) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, ms);
  };
}

function say(message) {
  byId("banner").textContent = message;
  byId("banner").hidden = !message;
}

class Page {
  #regions = [];
  #region = -1;
  #asked = 0;
  #place = null;

  constructor(facts) {
    this.facts = facts;
    this.stage = new Stage(byId("slide"), facts, address);
    this.outlines = new Outlines(this.stage);
    keepScaleBar(this.stage, byId("scale-bar"));
    this.stage.onClick((x, y) => this.showPlace(x, y));
    this.standing = facts.slide_error ? `${facts.slide_error}. The heatmap is shown without the slide.` : "";
    say(this.standing);
    this.#fillIn();
    this.#listen();
    this.showOpacity();
    this.findRegions();
    this.stage.viewer.addOnceHandler("open", () => this.showHeatmap());
  }

  /** Links to the slides before and after this one in the list. */
  async linkNeighbours() {
    const { done } = await fetchJson("/api/slides");
    const here = done.findIndex((slide) => slide.id === this.facts.id);
    const link = (slide, text) => slide && element("a", { href: `/slides/${slide.address}`, title: slide.id }, text);
    const links = [link(done[here - 1], "‹ previous"), link(done[here + 1], "next ›")].filter(Boolean);
    byId("neighbours").replaceChildren(`${here + 1} of ${done.length} `, ...links);
  }

  get classIndex() {
    return Number(chosen("class"));
  }

  #fillIn() {
    const { facts } = this;
    document.title = `${facts.id} - wsi_cam`;
    byId("name").textContent = facts.id;
    byId("score").textContent = `slide score ${fixed(facts.score.value, 3)} ${facts.score.class}`;
    byId("score").title = `${facts.score.rule ?? ""}; model ${facts.model.name}`;
    byId("classes").append(...facts.classes.map(({ name, colour }, index) => {
      const dot = element("span", { className: "dot" });
      dot.style.background = colour;
      const input = element("input", { type: "radio", name: "class", value: index, checked: index === facts.shown_class });
      return element("label", {}, input, dot, name);
    }));
    byId("panel").hidden = false;
  }

  #listen() {
    const on = (id, event, act) => byId(id).addEventListener(event, act);
    const heatmapSoon = afterAWhile(() => this.showHeatmap());
    const regionsSoon = afterAWhile(() => this.findRegions());
    for (const input of document.querySelectorAll("input[name=layer]")) {
      input.addEventListener("change", () => this.showHeatmap());
    }
    on("classes", "change", () => {
      this.showHeatmap();
      this.findRegions();
      this.describePlace();
    });
    on("opacity", "input", () => this.showOpacity());
    on("threshold", "input", () => {
      byId("threshold-value").value = fixed(number("threshold"), 2);
      regionsSoon();
      if (byId("hide").checked) heatmapSoon();
    });
    on("grey", "change", () => this.stage.showSlide(byId("grey").checked));
    on("hide", "change", () => this.showHeatmap());
    on("outline", "change", () => this.drawRegions());
    on("next-region", "click", () => this.goToRegion(1));
    on("previous-region", "click", () => this.goToRegion(-1));
    on("show-panel", "click", () => this.togglePanel());
    on("show-keys", "click", () => byId("keys").showModal());
    on("close-keys", "click", () => byId("keys").close());
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  showHeatmap() {
    const hideBelow = byId("hide").checked ? number("threshold") : 0;
    this.stage.showHeatmap(chosen("layer"), this.classIndex, hideBelow);
    byId("threshold-value").value = fixed(number("threshold"), 2);
    const scale = this.facts.classes[this.classIndex].scales[chosen("layer")];
    byId("legend-strip").style.background = `linear-gradient(to right, ${scale.colours.join(",")}) white`;
    byId("legend-low").textContent = scale.low;
    byId("legend-high").textContent = (scale.open_ended ? "≥ " : "") + Number(scale.high.toPrecision(3));
    byId("legend-title").textContent = scale.title;
    byId("legend-title").title = scale.meaning;
  }

  showOpacity() {
    byId("opacity-value").value = `${Math.round(number("opacity") * 100)} %`;
    this.stage.setOpacity(number("opacity"));
  }

  async findRegions() {
    this.#asked += 1;
    const mine = this.#asked;
    let regions = [];
    try {
      const found = await fetchJson(`${address}/regions/${this.classIndex}?threshold=${number("threshold")}`);
      regions = found.regions;
      say(this.standing); // an earlier failure is over
    } catch (error) {
      say(error.message);
    }
    if (mine !== this.#asked) return; // the threshold has moved on
    this.#regions = regions.map((region) => ({ ...region, box: boxAround(region.rings) }));
    this.#region = -1;
    this.drawRegions();
  }

  drawRegions() {
    const count = this.#regions.length;
    const area = this.#regions.reduce((sum, region) => sum + region.area_mm2, 0);
    byId("regions").textContent = count === 0 ? "no region" : `${count} region${count > 1 ? "s" : ""}, ${area.toPrecision(3)} mm²`;
    byId("next-region").disabled = byId("previous-region").disabled = count === 0;
    const shown = byId("outline").checked ? this.#regions : [];
    this.outlines.setRegions(shown, this.facts.classes[this.classIndex].colour);
  }

  goToRegion(step) {
    const count = this.#regions.length;
    if (count === 0) return;
    this.#region = this.#region < 0 ? (step > 0 ? 0 : count - 1) : (this.#region + step + count) % count;
    const region = this.#regions[this.#region];
    this.stage.lookAt(region.box);
    byId("regions").textContent =
      `region ${this.#region + 1} of ${count}: ${region.area_mm2.toPrecision(3)} mm², ${region.longest_diameter_mm.toPrecision(3)} mm long`;
  }

  async showPlace(x, y) {
    try {
      this.#place = await fetchJson(`${address}/place?x=${x}&y=${y}`);
    } catch (error) {
      say(error.message);
      return;
    }
    this.describePlace();
    this.outlines.setPlace(this.#place.patches.map((patch) => patch.shown_box), [x, y]);
  }

  describePlace() {
    const { classes } = this.facts;
    const shown = classes[this.classIndex].name;
    if (this.#place) byId("place").replaceChildren(...placeElements(this.#place, classes, shown));
  }

  togglePanel() {
    byId("panel").hidden = !byId("panel").hidden;
    byId("show-panel").ariaExpanded = String(!byId("panel").hidden);
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || byId("keys").open) return;
    // A focused slider or choice needs the arrows for itself.
    if (event.key.startsWith("Arrow") && event.target.matches("input")) return;
    const act = this.#actions()[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act) {
      event.preventDefault();
      act();
    } else if (/^[1-9]$/.test(event.key)) {
      document.querySelectorAll("input[name=class]")[event.key - 1]?.click();
    }
  }

  #actions() {
    const { stage } = this;
    const click = (id) => () => byId(id).click();
    const setOpacity = (value) => {
      byId("opacity").value = value;
      this.showOpacity();
    };
    return {
      "+": () => stage.zoom(1.5), "=": () => stage.zoom(1.5), "-": () => stage.zoom(1 / 1.5), 0: () => stage.home(),
      ArrowLeft: () => stage.move(-1, 0), ArrowRight: () => stage.move(1, 0),
      ArrowUp: () => stage.move(0, -1), ArrowDown: () => stage.move(0, 1),
      "[": () => setOpacity(number("opacity") - 0.1), "]": () => setOpacity(number("opacity") + 0.1),
      h: () => {
        this.opacityBefore = number("opacity") || this.opacityBefore;
        setOpacity(number("opacity") > 0 ? 0 : this.opacityBefore);
      },
      e: () => document.querySelector("input[name=layer]:not(:checked)").click(),
      g: click("grey"), r: click("outline"), n: click("next-region"), p: click("previous-region"),
      c: () => this.togglePanel(), "?": click("show-keys"),
    };
  }
}

try {
  await new Page(await fetchJson(address)).linkNeighbours();
} catch (error) {
  byId("name").textContent = decodeURIComponent(location.pathname.split("/").pop());
  say(error.message);
}
