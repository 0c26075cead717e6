// The card, and the ring around the control that it points at. It takes clicks only where it is itself.
const NAMES = ["primary-color", "background-color", "text-color", "border-color", "button-radius", "font"];

class Card {
  constructor(css, act) {
    this.host = document.createElement("div");
    const root = this.host.attachShadow({ mode: "open" });
    root.innerHTML = `<style>${css}</style><div class="ring" aria-hidden="true"></div>
      <section class="card" role="region" aria-label="Tour">
        <div class="words" role="status" aria-live="polite">
          <p class="count"></p><p class="title"></p><p class="text"></p>
        </div>
        <div class="row"></div>
      </section>`;
    for (const name of ["ring", "card", "count", "title", "text", "row"]) this[name] = root.querySelector(`.${name}`);
    this.root = root;
    this.act = act;
    this.target = this.colours = null;
    this.shown = "";
    this.ring.hidden = this.card.hidden = true;
    document.body.append(this.host);
  }

  show(said, target, corner) {
    this.paint();
    this.corner = corner || target === null;
    const fresh = JSON.stringify(said) !== this.shown;
    if (fresh) this.write(said);
    const moved = target !== this.target;
    this.target = target;
    this.card.hidden = false;
    if (target && (fresh || moved) && !corner) bring(target);
    this.follow();
    if (fresh || moved) this.beat();
  }

  // The ring beats a few times for every step, and then stands still.
  beat() {
    this.ring.style.animation = "none";
    this.ring.getBoundingClientRect(); // styles are taken up now, so that the animation begins anew
    this.ring.style.animation = "";
  }

  hide() {
    this.ring.hidden = this.card.hidden = true;
    this.shown = "";
    this.target = null;
  }

  // Buttons stay the same elements where only their words change, so that one that has the focus keeps it.
  write(said) {
    this.shown = JSON.stringify(said);
    for (const name of ["count", "title", "text"]) {
      this[name].textContent = said[name];
      this[name].hidden = !said[name];
    }
    const had = this.hasFocus();
    said.acts.forEach(([act, label, look], at) => {
      const button = this.row.children[at] ?? this.row.appendChild(document.createElement("button"));
      Object.assign(button, { type: "button", className: look, textContent: label, onclick: () => this.act(act) });
    });
    while (this.row.children.length > said.acts.length) this.row.lastChild.remove();
    if (had && !this.hasFocus()) this.row.firstChild.focus({ preventScroll: true });
  }

  hasFocus() {
    return this.root.activeElement !== null;
  }

  // The page's colours are those of the theme, which may change at any time.
  paint() {
    const style = getComputedStyle(this.colours);
    for (const name of NAMES.map((one) => `--st-${one}`)) {
      const value = style.getPropertyValue(name);
      if (value) this.host.style.setProperty(name, value);
    }
  }

  follow() {
    const around = this.target === null ? null : this.target.getBoundingClientRect();
    const inside = around && around.width > 0 && around.bottom > 0 && around.top < innerHeight;
    this.ring.hidden = !inside;
    if (inside) this.encircle(around);
    const { width, height } = this.card.getBoundingClientRect();
    const [left, top] = placeFor({ width, height }, inside ? around : null, this.corner, this.place);
    this.place = [left, top];
    Object.assign(this.card.style, { left: `${left}px`, top: `${top}px` });
  }

  encircle({ left, top, width, height }) {
    const gap = 4;
    const low = Math.min(innerHeight - 2, top + height + gap);
    const high = Math.max(2, top - gap);
    const box = { left: left - gap, top: high, width: width + 2 * gap, height: low - high };
    for (const [name, value] of Object.entries(box)) this.ring.style[name] = `${value}px`;
    this.ring.style.boxSizing = "border-box";
  }
}

function bring(target) {
  const { top, bottom } = target.getBoundingClientRect();
  if (top >= 0 && bottom <= innerHeight) return;
  const quiet = matchMedia("(prefers-reduced-motion: reduce)").matches;
  target.scrollIntoView({ behavior: quiet ? "auto" : "smooth", block: "nearest" });
}
