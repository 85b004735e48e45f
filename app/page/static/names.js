// Names of languages for people; the codes stay in the data. The browser knows the names, so nothing is fetched.

const NAMES = new Intl.DisplayNames(["en-GB"], { type: "language", fallback: "none" });

/** "cs" -> "Czech"; a code that no standard knows stays as it is. */
export function languageName(code) {
  if (code === "unknown") return "Unknown language";
  if (code === "no_speech") return "No speech";
  try {
    return NAMES.of(code) ?? code;
  } catch {
    return code;
  }
}

/** Put names in place of the codes of all [data-language] under `root`. */
export function nameLanguages(root = document) {
  for (const element of root.querySelectorAll("[data-language]")) {
    const code = element.dataset.language;
    element.textContent = languageName(code);
    if (element.textContent !== code) element.title = code;
  }
}

export function percent(share) {
  if (share > 0 && share < 0.005) return "< 1 %";
  if (share < 1 && share >= 0.995) return "> 99 %";
  return `${Math.round(share * 100)} %`;
}

/** 75.3 -> "1:15", or "1:15.3" with one digit. */
export function clock(seconds, digits = 0) {
  const rounded = Number(seconds.toFixed(digits));
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return `${Math.floor(rounded / 60)}:${rest}`;
}

/** element("p", { class: "small" }, "text", child) */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
