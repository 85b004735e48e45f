// The first page: takes a recording, asks the server, shows the answer. Nothing is stored, here or there.

import { clock, element, languageName, nameLanguages, percent } from "./names.js";
import { Recorder } from "./recorder.js";
import { draw, placeOf } from "./spectrogram.js";

const RECORD_SECONDS = 120;
const FIRST_RANKS = 5;
// Okabe and Ito's colours, which all kinds of colour vision can tell apart.
const COLOURS = 7;

const at = (id) => document.getElementById(id);
const intake = at("intake");
const player = at("player");

/** What is on show: blob, name, answer, explanation and whether it is seen. */
let shown = null;
/** Counts the recordings, so that an answer that comes too late is dropped. */
let turn = 0;

// ---- asking

function tell(words) {
  at("status").classList.remove("unseen");
  at("status").textContent = words;
}

function complain(message, cure = "") {
  tell("");
  at("fault").replaceChildren(element("strong", {}, message), cure ? ` ${cure}` : "");
}

function chosenLanguages() {
  return [...document.querySelectorAll("#languages input:checked")].map((box) => box.value);
}

/** The server's answer; null after it was complained about. */
async function ask(task, blob) {
  const url = new URL(`/api/${task}`, location.href);
  const languages = chosenLanguages();
  if (languages.length) url.searchParams.set("languages", languages.join(","));
  let response, answer;
  try {
    response = await fetch(url, { method: "POST", body: blob, headers: { "content-type": "application/octet-stream" } });
    answer = await response.json();
  } catch {
    complain("The server did not answer.", "See whether it still runs in its terminal, then try again.");
    return null;
  }
  if (!response.ok) {
    complain(answer.error.message, answer.error.cure);
    return null;
  }
  return answer;
}

async function recognise(blob, name) {
  const mine = ++turn;
  at("fault").replaceChildren();
  if (blob.size > Number(intake.dataset.maxBytes)) {
    const megabytes = (size) => `${Math.round(size / 1e6)} MB`;
    complain(
      `The recording is too large: ${megabytes(blob.size)}, and ${megabytes(intake.dataset.maxBytes)} are the limit.`,
      "Cut it, or save it as MP3.",
    );
    return;
  }
  if (!blob.size) {
    complain("The file is empty.", "Choose another one.");
    return;
  }
  tell(`Listening to ${name} …`);
  document.body.classList.add("busy");
  const answer = await ask("recognise", blob);
  if (mine !== turn) return;
  document.body.classList.remove("busy");
  if (!answer) {
    at("result").hidden = true;
    return;
  }
  shown = { blob, name, answer, explanation: null, explained: false };
  show();
}

// ---- showing

function show() {
  const { answer, name, blob } = shown;
  const [best, probability] = answer.ranking[0];
  const unknown = answer.language === "unknown";
  at("result").hidden = false;
  at("source").textContent = name;
  at("verdict").textContent = languageName(answer.language);
  at("sureness").textContent = surenessWords(answer, unknown, best, probability);
  tell(`${languageName(answer.language)}. ${at("sureness").textContent}`);
  at("status").classList.add("unseen"); // for screen readers: the eye has the result itself

  if (player.src) URL.revokeObjectURL(player.src);
  player.hidden = false;
  player.src = URL.createObjectURL(blob);

  showRanking(FIRST_RANKS);
  showTimeline();
  showSpectrogram();
  at("result").scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
}

function surenessWords(answer, unknown, best, probability) {
  const heard = `${answer.seconds.toFixed(1)} s of sound`;
  const speech = answer.speech_seconds == null ? "" : `, ${answer.speech_seconds.toFixed(1)} s of it speech`;
  const sure = unknown
    ? `Too unsure to name one; the best guess is ${languageName(best)} with ${percent(probability)}`
    : `${percent(probability)} sure`;
  return `${sure} · ${heard}${speech}`;
}

function showRanking(count) {
  const { ranking } = shown.answer;
  at("ranking").replaceChildren(
    ...ranking.slice(0, count).map(([language, probability]) => {
      const bar = element("span", { class: "bar" });
      bar.style.width = `${100 * probability}%`;
      return element(
        "li",
        {},
        element("span", { class: "name", title: language }, languageName(language)),
        element("span", { class: "value" }, percent(probability)),
        element("span", { class: "rail", "aria-hidden": "true" }, bar),
      );
    }),
  );
  at("more").hidden = count >= ranking.length;
}

function showTimeline() {
  const { segments = [], seconds } = shown.answer;
  const colours = new Map();
  const track = at("track");
  track.replaceChildren();
  const body = at("timeline").tBodies[0];
  body.replaceChildren();
  for (const { start, end, language, probability } of segments) {
    if (!colours.has(language)) colours.set(language, colours.size % COLOURS);
    const name = languageName(language);
    const words = `${name}, ${clock(start, 1)} to ${clock(end, 1)}, ${percent(probability)}`;
    const part = element("button", { type: "button", class: `part colour-${colours.get(language)}`, title: words, "aria-label": `Play ${words}` }, name);
    part.style.left = `${(100 * start) / seconds}%`;
    part.style.width = `${(100 * (end - start)) / seconds}%`;
    part.addEventListener("click", () => playFrom(start));
    track.append(part);
    body.append(
      element("tr", {}, element("td", {}, clock(start, 1)), element("td", {}, clock(end, 1)), element("td", {}, name), element("td", { class: "number" }, percent(probability))),
    );
  }
  track.hidden = at("timeline-details").hidden = !segments.length;
}

function showSpectrogram() {
  const { answer, explanation, explained } = shown;
  const { spectrogram, seconds } = answer;
  draw(at("canvas"), spectrogram, explained ? explanation : null);
  at("canvas").setAttribute("aria-label", `Spectrogram of ${seconds.toFixed(1)} seconds, ${spectrogram.lowest_hz} to ${spectrogram.highest_hz} Hz`);
  at("frequencies").replaceChildren(
    ...[250, 1000, 4000].map((hertz) => {
      const mark = element("span", {}, hertz < 1000 ? `${hertz} Hz` : `${hertz / 1000} kHz`);
      mark.style.bottom = `${100 * placeOf(hertz, spectrogram)}%`;
      return mark;
    }),
  );
  at("times").replaceChildren(...timeMarks(seconds));
  at("explain").setAttribute("aria-pressed", String(explained));
  at("caption").textContent = explained
    ? `Lit: the sounds without which the model would be less sure of ${languageName(explanation.language)}.`
    : "";
}

function timeMarks(seconds) {
  const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200].find((one) => seconds / one <= 8) ?? 3600;
  const marks = [];
  for (let time = 0; time <= seconds; time += step) {
    if (time > 0.97 * seconds) break; // it would stand out over the edge
    const mark = element("span", {}, clock(time, step < 1 ? 1 : 0));
    mark.style.left = `${(100 * time) / seconds}%`;
    marks.push(mark);
  }
  return marks;
}

async function explain() {
  if (!shown) return;
  if (!shown.explanation) {
    const asked = shown;
    tell("Hiding one piece of the sound after another, to see which ones matter …");
    at("explain").disabled = true;
    const explanation = await ask("explain", asked.blob);
    at("explain").disabled = false;
    if (shown !== asked || !explanation) return;
    shown.explanation = explanation;
    tell("Done: the sounds that matter are lit.");
  }
  shown.explained = !shown.explained;
  showSpectrogram();
}

// ---- playing

function playFrom(seconds) {
  player.currentTime = seconds;
  player.play().catch(() => {}); // it says so itself, by its error event
}

function followPlayer() {
  const cursor = at("cursor");
  cursor.hidden = !shown || player.hidden || (player.paused && player.currentTime === 0);
  if (!cursor.hidden) cursor.style.left = `${Math.min(100, (100 * player.currentTime) / shown.answer.seconds)}%`;
  if (!player.paused) requestAnimationFrame(followPlayer);
}

function calm() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

// ---- recording

let recorder = null;

async function startRecording() {
  at("fault").replaceChildren();
  const own = new Recorder();
  try {
    await own.start((level) => {
      at("level").value = Math.sqrt(level);
      at("clock").textContent = clock(own.seconds);
      if (own.seconds >= RECORD_SECONDS) stopRecording();
    });
  } catch (error) {
    complain(...microphoneWords(error.name));
    return;
  }
  recorder = own;
  recordingSeen(true);
  tell(`Recording. Press the button again when you have spoken; it ends by itself after ${RECORD_SECONDS} s.`);
}

function stopRecording() {
  if (!recorder) return;
  const blob = recorder.stop();
  recorder = null;
  recordingSeen(false);
  recognise(blob, "your recording");
}

function discardRecording() {
  recorder?.close();
  recorder = null;
  recordingSeen(false);
  tell("The recording was discarded.");
  at("record").focus();
}

function recordingSeen(on) {
  at("record").setAttribute("aria-pressed", String(on));
  at("record-words").textContent = on ? "Stop and recognise" : "Record";
  at("recording").hidden = at("cancel").hidden = !on;
  at("clock").textContent = clock(0);
}

function microphoneWords(name) {
  return (
    {
      NotAllowedError: ["The browser may not use the microphone.", "Allow it beside the page's address, then press Record again."],
      NotFoundError: ["No microphone was found.", "Plug one in, or choose a file."],
      NotReadableError: ["The microphone is used by another program.", "Close that one, then press Record again."],
      SecurityError: ["Browsers allow recording only on the machine that the server runs on.", "Open the page there as http://localhost, or choose a file."],
    }[name] ?? ["The microphone did not start.", "Try again, or choose a file."]
  );
}

// ---- wiring

function take(files) {
  if (!files.length) return;
  recognise(files[0], files[0].name + (files.length > 1 ? ` (the first of ${files.length} files)` : ""));
}

let over = 0; // dragenter and dragleave come for every element on the way
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => {
  if (carriesFiles(event)) at("drop").classList.toggle("over", ++over > 0);
});
addEventListener("dragleave", (event) => {
  if (carriesFiles(event)) at("drop").classList.toggle("over", --over > 0);
});
addEventListener("dragover", (event) => {
  if (carriesFiles(event)) event.preventDefault();
});
addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  over = 0;
  at("drop").classList.remove("over");
  take(event.dataTransfer.files);
});
at("file").addEventListener("change", () => {
  take([...at("file").files]);
  at("file").value = ""; // so that the same file can be chosen again
});
at("record").addEventListener("click", () => (recorder ? stopRecording() : startRecording()));
at("cancel").addEventListener("click", discardRecording);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && recorder) discardRecording();
});
at("more").addEventListener("click", () => {
  showRanking(Infinity);
  at("ranking").querySelectorAll("li")[FIRST_RANKS]?.scrollIntoView({ block: "nearest" });
});
at("explain").addEventListener("click", explain);
at("languages").addEventListener("change", () => {
  const count = chosenLanguages().length;
  at("restricted").textContent = count ? `(now only ${count})` : "";
  if (shown) recognise(shown.blob, shown.name);
});
player.addEventListener("play", followPlayer);
player.addEventListener("timeupdate", followPlayer);
player.addEventListener("seeked", followPlayer);
player.addEventListener("error", () => {
  player.hidden = true; // a format that the model can hear and the browser cannot
});
at("picture").addEventListener("click", (event) => {
  if (!shown || player.hidden) return;
  const box = at("picture").getBoundingClientRect();
  playFrom(((event.clientX - box.left) / box.width) * shown.answer.seconds);
});
new ResizeObserver(() => shown && showSpectrogram()).observe(at("picture"));
nameLanguages();

// A clip of the last evaluation, from its page's "look".
const clip = new URLSearchParams(location.search).get("clip");
if (clip) {
  const response = await fetch(`/api/clips/${encodeURIComponent(clip)}`);
  if (response.ok) recognise(await response.blob(), `clip ${clip} of the last evaluation`);
  else {
    const { error } = await response.json();
    complain(error.message, error.cure);
  }
}
