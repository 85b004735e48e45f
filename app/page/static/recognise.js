// The first page: takes a recording, asks the server, shows the answer. Nothing is stored, here or there.

import { clock, element, languageName, nameLanguages, percent } from "./names.js";
import { Recorder } from "./recorder.js";
import { draw, placeOf } from "./spectrogram.js";

const RECORD_SECONDS = 120;
const FIRST_RANKS = 5;
const LIST = new Intl.ListFormat("en-GB", { type: "conjunction" });
// Okabe and Ito's colours, which all kinds of colour vision can tell apart.
const COLOURS = 6; // and grey for what is unknown

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

/** For screen readers: the eye has the result itself. */
function announce(words) {
  tell(words);
  at("status").classList.add("unseen");
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
  if (at("all-sound").checked) url.searchParams.set("all_sound", "1");
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
  at("result").hidden = false;
  at("source").textContent = name;
  at("verdict").textContent = verdictWords(answer);
  at("sureness").textContent = surenessWords(answer);
  announce(`${at("verdict").textContent}. ${at("sureness").textContent}`);

  if (player.src) URL.revokeObjectURL(player.src);
  player.hidden = false;
  player.src = URL.createObjectURL(blob);

  showRanking(FIRST_RANKS);
  showTimeline();
  showSpectrogram();
  at("result").scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
}

/** The languages that are spoken one after another, or the one answer. */
function verdictWords({ language, segments }) {
  const spoken = [...new Set(segments.map((one) => one.language))].filter((one) => one !== "unknown");
  return spoken.length > 1 ? LIST.format(spoken.map(languageName)) : languageName(language);
}

function surenessWords({ language, ranking, segments, seconds, speech_seconds: speech }) {
  const heard = `${seconds.toFixed(1)} s of sound`;
  if (!ranking.length) return `${heard}, in which nobody speaks. If it is singing, see the choices above.`;
  const [best, probability] = ranking[0];
  const sure =
    language === "unknown"
      ? `Too unsure to name one; the best guess is ${languageName(best)} with ${percent(probability)}`
      : `${percent(probability)} sure`;
  const several = new Set(segments.map((one) => one.language)).size > 1;
  const whole = several ? `As a whole most like ${languageName(best)}, ${percent(probability)}` : sure;
  return `${whole} · ${heard}, ${speech.toFixed(1)} s of it speech`;
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
  at("believed").hidden = at("explain").hidden = !ranking.length;
}

function showTimeline() {
  const { segments = [], seconds } = shown.answer;
  const colours = new Map();
  const track = at("track");
  track.replaceChildren();
  const body = at("timeline").tBodies[0];
  body.replaceChildren();
  for (const { start, end, language, probability } of segments) {
    if (!colours.has(language)) colours.set(language, language === "unknown" ? COLOURS : colours.size % COLOURS);
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
  at("caption").textContent = explained ? explainedWords(explanation, seconds) : "";
  at("over-time").hidden = !explained || explanation.times.length < 2;
  if (!at("over-time").hidden) at("over-time").replaceChildren(...overTime(explanation, seconds));
}

function explainedWords({ language, start, end }, seconds) {
  const part = end - start < seconds - 0.1 ? ` Only ${clock(start)} to ${clock(end)} was looked into, where it was surest.` : "";
  return `Lit: the sounds without which the model would be less sure of ${languageName(language)}.${part}`;
}

/** The probabilities of the first languages over time, as lines that differ in dashes too. */
function overTime({ times, probabilities }, seconds) {
  const make = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const svg = make("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", class: "lines", "aria-hidden": "true" });
  const legend = element("p", { class: "small legend" }, "Probability over time, by pieces of 3 s: ");
  Object.entries(probabilities).forEach(([language, values], number) => {
    const points = values.map((value, i) => `${((1000 * times[i]) / seconds).toFixed(1)},${(98 - 96 * value).toFixed(1)}`);
    svg.append(make("polyline", { points: points.join(" "), class: `line line-${number}`, "vector-effect": "non-scaling-stroke" }));
    const sample = make("svg", { viewBox: "0 0 30 6", class: "sample", "aria-hidden": "true" });
    sample.append(make("line", { x1: 0, x2: 30, y1: 3, y2: 3, class: `line line-${number}` }));
    const [least, most] = [Math.min(...values), Math.max(...values)];
    legend.append(element("span", { class: "key" }, sample, ` ${languageName(language)}, ${percent(least)} to ${percent(most)}`));
  });
  return [svg, legend];
}

function timeMarks(seconds) {
  const room = Math.max(2, at("times").clientWidth / 60);
  const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200].find((one) => seconds / one <= room) ?? 3600;
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
    document.body.classList.add("busy");
    const explanation = await ask("explain", asked.blob);
    document.body.classList.remove("busy");
    at("explain").disabled = false;
    if (shown !== asked || !explanation) return;
    const { bands, columns } = asked.answer.spectrogram;
    shown.explanation = { ...explanation, bands, columns };
    announce("Done: the sounds that matter are lit.");
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
function chosenAnew() {
  const count = chosenLanguages().length;
  const words = [count ? `only ${count} of the languages` : "", at("all-sound").checked ? "all sound" : ""].filter(Boolean);
  at("restricted").textContent = words.length ? `(${words.join(", ")})` : "";
  if (shown) recognise(shown.blob, shown.name);
}
at("languages").addEventListener("change", chosenAnew);
at("all-sound").addEventListener("change", chosenAnew);
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
