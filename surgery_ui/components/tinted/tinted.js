// Tokens arrive as [text, loss before, loss after]; all text goes in as text nodes, never as HTML.
const REST = "Point at a token, or use the arrow keys, to see its numbers.";
const views = new WeakMap();

export default function ({ parentElement, data }) {
  let view = views.get(parentElement);
  if (!view) views.set(parentElement, (view = new Tinted(parentElement)));
  view.receive(data);
}

class Tinted {
  constructor(parent) {
    this.text = parent.querySelector(".text");
    this.readout = parent.querySelector(".readout");
    this.range = parent.querySelector(".range");
    this.text.addEventListener("pointerover", (event) => this.show(event.target.closest("span")));
    this.text.addEventListener("pointerleave", () => this.show(null));
    this.text.addEventListener("blur", () => this.show(null));
    this.text.addEventListener("keydown", (event) => this.onKey(event));
  }

  receive({ tokens, full }) {
    this.tokens = tokens;
    this.range.textContent = `full colour at ${full} nats`;
    this.text.replaceChildren(...tokens.map(([text, before, after], at) => this.span(text, before, after, at, full)));
    this.show(null);
  }

  span(text, before, after, at, full) {
    const span = document.createElement("span");
    span.textContent = text;
    span.dataset.at = at;
    if (before === null || after === null) return span;
    const change = after - before;
    span.className = change > 0 ? "worse" : "better";
    // Up to 70%, so that the text stays readable on its colour.
    span.style.setProperty("--strength", `${Math.min(1, Math.abs(change) / full) * 70}%`);
    return span;
  }

  show(span) {
    this.text.querySelector(".now")?.classList.remove("now");
    this.at = span ? Number(span.dataset.at) : -1;
    if (!span) return (this.readout.textContent = REST);
    span.classList.add("now");
    const [text, before, after] = this.tokens[this.at];
    const name = JSON.stringify(text);
    if (before === null || after === null) return (this.readout.textContent = `${name}: the first token is not scored.`);
    const change = after - before;
    const sign = change < 0 ? "−" : "+";
    this.readout.textContent =
      `${name}: ${before.toFixed(2)} nats before, ${after.toFixed(2)} after (${sign}${Math.abs(change).toFixed(2)})`;
  }

  onKey(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || this.tokens.length === 0) return;
    event.preventDefault();
    const at = Math.max(0, Math.min(this.tokens.length - 1, this.at + step));
    const span = this.text.children[at];
    this.show(span);
    span.scrollIntoView({ block: "nearest" });
  }
}
