// Shows two drawings of the same; the style sheet hides the one that does not fit.
const NAMES = ["wide", "narrow"];

export default function ({ parentElement, data }) {
  const place = parentElement.querySelector(".picture");
  const reader = new DOMParser();
  const drawings = NAMES.map((name) => {
    const drawing = document.importNode(reader.parseFromString(data[name], "image/svg+xml").documentElement, true);
    drawing.classList.add(name);
    if (name === "wide") drawing.style.width = `${drawing.getAttribute("width") * data.times}px`;
    return drawing;
  });
  place.replaceChildren(...drawings);
}
