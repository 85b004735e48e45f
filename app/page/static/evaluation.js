// The evaluation page: names of the languages, tables that sort, and the mistakes to listen to.

import { element, languageName, nameLanguages } from "./names.js";
import { makeSortable } from "./tables.js";

const at = (id) => document.getElementById(id);
const player = new Audio();
let playing = null;

nameLanguages();
for (const head of document.querySelectorAll("[data-language-title]")) head.title = languageName(head.dataset.languageTitle);
document.querySelectorAll("table.sortable").forEach(makeSortable);

function stop() {
  player.pause();
  playing?.setAttribute("aria-pressed", "false");
  playing = null;
}

async function play(button) {
  const again = playing === button;
  stop();
  if (again) return;
  at("fault").replaceChildren();
  playing = button;
  button.setAttribute("aria-pressed", "true");
  try {
    // fetched whole: a fault comes with its reason, and the player can be moved back and forth
    const response = await fetch(`/api/clips/${button.dataset.clip}`);
    if (!response.ok) throw (await response.json()).error;
    const blob = await response.blob();
    if (playing !== button) return;
    if (player.src) URL.revokeObjectURL(player.src);
    player.src = URL.createObjectURL(blob);
    await player.play();
    at("status").textContent = `Playing ${button.textContent.trim()}`;
  } catch (error) {
    if (playing !== button) return;
    stop();
    at("status").textContent = "";
    at("fault").replaceChildren(element("strong", {}, error.cure ? error.message : "The clip cannot be played."), ` ${error.cure ?? ""}`);
  }
}

player.addEventListener("ended", stop);
for (const button of document.querySelectorAll(".play")) button.addEventListener("click", () => play(button));
