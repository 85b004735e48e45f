// The experiments page: one table, each row beside a baseline that the reader chooses.

import { element } from "./names.js";
import { makeSortable } from "./tables.js";

const SCORES = { accuracy: "Accuracy", macro_f1: "Macro-F1", ece: "Calibration error", cavg: "Cavg" };
const at = (id) => document.getElementById(id);
const table = document.querySelector("table.experiments");
let found = { rows: [], params: [] };

async function read() {
  at("status").textContent = "Asking DVC, which takes a few seconds …";
  at("fault").replaceChildren();
  document.body.classList.add("busy");
  let answer;
  try {
    const response = await fetch("/api/experiments");
    answer = await response.json();
  } catch {
    answer = { error: { message: "The server did not answer.", cure: "See whether it still runs in its terminal, then load this page again." } };
  }
  document.body.classList.remove("busy");
  at("status").textContent = "";
  if (answer.error) {
    at("fault").replaceChildren(element("strong", {}, answer.error.message), ` ${answer.error.cure}`);
    return;
  }
  found = answer;
  at("compare").hidden = !found.rows.length;
  if (!found.rows.length) {
    at("status").textContent = "There is nothing to compare yet: run `make repro`, then `dvc exp run -S train.epochs=10`.";
    return;
  }
  const before = at("baseline").value;
  at("baseline").replaceChildren(...found.rows.map((row, i) => element("option", { value: i }, label(row))));
  // the last commit, if there is one: the working folder and the experiments began there
  at("baseline").value = before || String(Math.max(0, found.rows.findIndex((row) => row.kind === "commit")));
  show();
}

function label(row) {
  return row.kind === "workspace" ? row.name : `${row.name} (${row.rev})`;
}

function show() {
  const baseline = found.rows[Number(at("baseline").value)];
  const scores = Object.keys(SCORES).filter((name) => found.rows.some((row) => row.scores[name]));
  const button = (words, attributes = {}) => element("th", { scope: "col", ...attributes }, element("button", { type: "button" }, words));
  table.tHead.replaceChildren(
    element(
      "tr",
      {},
      button("Experiment"),
      ...scores.flatMap((name) => [button(SCORES[name], { class: "number" }), ...(name === "accuracy" ? [button("Difference", { class: "number" })] : [])]),
      element("th", { scope: "col" }, "Other params"),
      button("Date"),
    ),
  );
  table.tBodies[0].replaceChildren(...found.rows.map((row) => line(row, baseline, scores)));
  at("legend").textContent =
    `Below each score its 95 % interval over voices or sources. A difference is called clear where the two intervals do not meet; ` +
    `where they do, it may be chance.`;
}

function line(row, baseline, scores) {
  const own = row === baseline;
  const name = element("th", { scope: "row" }, row.name, element("span", { class: "small" }, under(row)));
  return element(
    "tr",
    own ? { class: "own" } : {},
    name,
    ...scores.flatMap((score) => [scoreCell(row.scores[score], score === "accuracy"), ...(score === "accuracy" ? [differenceCell(row, baseline)] : [])]),
    element("td", { class: "params" }, ...changes(row, baseline)),
    element("td", { class: "small", "data-value": row.created ?? "9" }, row.created ? row.created.slice(0, 16).replace("T", " ") : "now"),
  );
}

function under(row) {
  if (row.kind === "experiment") return `from ${row.of}`;
  if (row.kind === "workspace") return "as it is now";
  return row.name === row.rev ? "commit" : row.rev;
}

/** A dot on a line from 0 to 1, its interval as a bar, as on the evaluation page. */
function whisker([value, low, high]) {
  const draw = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, one] of Object.entries(attributes)) made.setAttribute(key, one);
    return made;
  };
  const svg = draw("svg", { class: "whisker", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(draw("rect", { class: "whisker-rail", x: 0, y: 4, width: 100, height: 2 }));
  if (low != null && high != null) svg.append(draw("rect", { class: "whisker-range", x: 100 * low, y: 2, width: Math.max(0.4, 100 * (high - low)), height: 6 }));
  svg.append(draw("rect", { class: "whisker-value", x: Math.min(99, Math.max(0, 100 * value - 0.5)), y: 0, width: 1, height: 10 }));
  return svg;
}

function scoreCell(score, drawn = false) {
  if (!score) return element("td", { class: "number", "data-value": -1 }, "–");
  const [value, low, high] = score;
  const range = low == null || high == null ? "" : `${low.toFixed(3)}–${high.toFixed(3)}`;
  return element("td", { class: "number", "data-value": value }, value.toFixed(3), ...(drawn ? [whisker(score)] : []), element("span", { class: "small" }, range));
}

function differenceCell(row, baseline) {
  const [one, other] = [row.scores.accuracy, baseline.scores.accuracy];
  if (row === baseline) return element("td", { class: "number", "data-value": 0 }, "baseline");
  if (row.fault) return element("td", { class: "small", "data-value": -2 }, row.fault);
  if (!one || !other) return element("td", { class: "number", "data-value": -2 }, "–");
  const difference = one[0] - other[0];
  const known = [one, other].every(([, low, high]) => low != null && high != null);
  const apart = known && (one[1] > other[2] || one[2] < other[1]);
  const sameTest = row.n_clips === baseline.n_clips && row.split === baseline.split;
  const words = !sameTest ? "another test set" : !known ? "" : apart ? "clear" : difference ? "may be chance" : "the same";
  const sign = difference > 0 ? "+" : difference < 0 ? "−" : "";
  return element(
    "td",
    { class: `number ${apart ? "apart" : ""}`, "data-value": difference },
    `${sign}${Math.abs(difference).toFixed(3)}`,
    element("span", { class: "small" }, words),
  );
}

function changes(row, baseline) {
  const differing = found.params.filter((key) => JSON.stringify(row.params[key]) !== JSON.stringify(baseline.params[key]));
  if (row === baseline) return [];
  if (!differing.length) return [element("span", { class: "small" }, "none")];
  return differing.map((key) => element("div", {}, element("code", {}, key), ` ${row.params[key] ?? "absent"} `, element("span", { class: "small" }, `was ${baseline.params[key] ?? "absent"}`)));
}

makeSortable(table);
at("baseline").addEventListener("change", show);
at("again").addEventListener("click", read);
read();
