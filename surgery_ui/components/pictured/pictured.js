// Buttons with a small drawing above their words; sends the name of the one that was clicked.
const reader = new DOMParser();

export default function ({ parentElement, data, setTriggerValue }) {
  const list = parentElement.querySelector(".pictured");
  const focused = parentElement.querySelector("button:focus")?.dataset.name;
  list.replaceChildren(...data.choices.map((choice) => button(choice, setTriggerValue)));
  if (focused) list.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
}

function button({ name, label, help, picture }, send) {
  const made = document.createElement("button");
  made.type = "button";
  made.dataset.name = name;
  made.title = help;
  const drawing = document.importNode(reader.parseFromString(picture, "image/svg+xml").documentElement, true);
  // the label says it, and the button has its own words for a pointer
  drawing.setAttribute("aria-hidden", "true");
  drawing.querySelectorAll("title").forEach((title) => title.remove());
  const words = document.createElement("span");
  words.textContent = label;
  made.append(drawing, words);
  made.onclick = () => send("chosen", name);
  return made;
}
