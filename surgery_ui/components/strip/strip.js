// The layer strip: chips in running order, a tray of deleted layers, one menu for the chosen chip.
//
// Every edit is made here first and sent to Python as the whole list of slots in the plan's notation, with a
// rising number. Python answers with the plan it holds and the last number it handled, so an answer that is
// older than the newest edit here is left alone. Python validates what it gets like any other input.

const strips = new WeakMap();
const LIFTED = "Lifted. Arrows move it, Space puts it down, Escape puts it back.";
const MARKS = "Tinted: changed. Bar: moved. Dashed: repeated.";
const COST = "Rust: what deleting it cost in the sweep.";
const REST = "Drag to move, click for more, Shift-click for several.";
const KEYS =
  "Keys: arrows choose, Shift and arrows move, Space lifts, Shift and Space select, Delete deletes, Enter opens the menu.";
const GROUPED = 20; // slots from which chips stand in rows of ten, without the L of their names

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  let strip = strips.get(parentElement);
  if (!strip) strips.set(parentElement, (strip = new Strip(parentElement)));
  strip.send = (slots, edit) => setTriggerValue("edit", { slots, edit });
  strip.look = (position) => {
    strip.closeMenu(false);
    setTriggerValue("look", { position });
  };
  strip.sew = () => setTriggerValue("seam", { stitched: !strip.seam.on, edit: strip.edit });
  strip.receive(data);
  return () => strip.detach();
}

function element(tag, attributes = {}, text = "") {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

class Strip {
  constructor(parent) {
    const find = (name) => parent.querySelector("." + name);
    this.root = find("root");
    this.list = find("list");
    this.panel = find("panel");
    this.tray = find("tray");
    this.trayChips = find("tray-chips");
    this.trayLabel = find("tray-label");
    this.seamButton = find("seam");
    this.seam = null; // { on, label, help }: whether the cuts are stitched; null where none can be
    this.hint = find("hint");
    this.ghost = find("ghost");
    this.live = find("live");
    this.tools = find("selection");
    this.list.setAttribute("aria-description", KEYS);
    this.slots = [];
    this.depth = 0;
    this.adapted = new Set(); // layers with an adapter
    this.damage = {}; // by layer: [how strongly it is tinted, 0 to 1; what its deletion cost, in words]
    this.edit = 0;
    this.nextId = 0;
    this.focusId = null; // the chip that Tab reaches
    this.lifted = null; // {id, slots}: taken up with Space; slots is the order to go back to
    this.drag = null;
    this.menuId = null;
    this.selected = new Set(); // ids of the chips that are changed together
    this.anchorId = null; // the chip from which Shift selects
    this.listen();
  }

  listen() {
    this.list.addEventListener("keydown", (event) => this.onKey(event));
    this.root.addEventListener("pointerdown", (event) => this.onDown(event));
    this.root.addEventListener("pointermove", (event) => this.onMove(event));
    this.root.addEventListener("pointerup", (event) => this.onUp(event));
    this.root.addEventListener("pointercancel", () => this.endDrag(false));
    this.root.addEventListener("contextmenu", (event) => this.drag && event.preventDefault());
    this.panel.addEventListener("keydown", (event) => this.onMenuKey(event));
    this.tools.addEventListener("keydown", (event) => this.onToolsKey(event));
    this.seamButton.addEventListener("click", () => this.seam && this.sew());
    this.outside = (event) => {
      const path = event.composedPath();
      const onItsChip = path.includes(this.list.querySelector(".chip.open"));
      if (this.menuId !== null && !path.includes(this.panel) && !onItsChip) this.closeMenu(false);
    };
    document.addEventListener("pointerdown", this.outside, true);
  }

  detach() {
    document.removeEventListener("pointerdown", this.outside, true);
  }

  // --- state -------------------------------------------------------------------------------------------

  receive(data) {
    if (!data || data.edit < this.edit || this.drag?.on) return;
    this.damage = data.damage;
    this.edit = data.edit;
    this.depth = data.depth;
    this.adapted = new Set(data.adapted);
    this.seam = data.seam;
    this.busy = false;
    this.slots = this.identify(data.slots);
    this.lifted = null;
    this.render();
  }

  // Give texts the ids of the chips that show them already, so that focus stays on the same chip.
  identify(texts) {
    const free = [...this.slots];
    return texts.map((text) => {
      const at = free.findIndex((slot) => slot.text === text);
      const id = at < 0 ? this.nextId++ : free.splice(at, 1)[0].id;
      return { id, ...read(text) };
    });
  }

  slot(text) {
    return { id: this.nextId++, ...read(text) };
  }

  commit(slots, message) {
    this.slots = slots;
    this.seam = null; // whether the new plan can be stitched is Python's to say
    this.edit += 1;
    this.render();
    this.say(message);
    this.send(slots.map((slot) => slot.text), this.edit);
  }

  // A row of an unchanged model begins with a round number, so that a layer is found at once.
  get isGrouped() {
    return this.slots.length > GROUPED;
  }

  indexOf(id) {
    return this.slots.findIndex((slot) => slot.id === id);
  }

  deleted() {
    const used = new Set(this.slots.flatMap((slot) => slot.layers));
    return Array.from({ length: this.depth }, (_, layer) => layer).filter((layer) => !used.has(layer));
  }

  // --- edits -------------------------------------------------------------------------------------------

  move(id, to) {
    const slots = [...this.slots];
    const from = this.indexOf(id);
    const target = Math.max(0, Math.min(slots.length - 1, to));
    if (target === from) return;
    const [slot] = slots.splice(from, 1);
    slots.splice(target, 0, slot);
    this.focusId = id;
    const message = `${slot.spoken} moved to position ${target}.`;
    if (this.lifted) {
      this.slots = slots;
      this.render();
      this.say(message);
    } else this.commit(slots, message);
  }

  remove(id) {
    const at = this.indexOf(id);
    if (at < 0) return;
    const slots = this.slots.filter((slot) => slot.id !== id);
    const name = this.slots[at].spoken;
    this.focusId = slots[Math.min(at, slots.length - 1)]?.id ?? null;
    this.commit(slots, `${name} deleted. ${slots.length} left.`);
  }

  // A deleted layer goes back before the first layer with a higher number, where it was in the base model.
  restore(layer, to = null) {
    let at = to;
    if (at === null) {
      at = this.slots.findIndex((slot) => slot.layer !== null && slot.layer > layer);
      if (at < 0) at = this.slots.length;
    }
    const slot = this.slot(String(layer));
    this.focusId = slot.id;
    this.commit(this.slots.toSpliced(at, 0, slot), `${slot.spoken} put back at position ${at}.`);
  }

  repeat(id) {
    const at = this.indexOf(id);
    const copy = this.slot(this.slots[at].text);
    this.commit(this.slots.toSpliced(at + 1, 0, copy), `${copy.spoken} repeated.`);
  }

  rewrite(id, text, message) {
    const at = this.indexOf(id);
    if (this.slots[at].text === text) return;
    this.commit(this.slots.toSpliced(at, 1, { id, ...read(text) }), message);
  }

  // --- drawing -----------------------------------------------------------------------------------------

  render() {
    const hadFocus = this.root.getRootNode().activeElement;
    const focusWasHere = hadFocus && this.list.contains(hadFocus);
    if (!this.slots.some((slot) => slot.id === this.focusId)) this.focusId = this.slots[0]?.id ?? null;
    const moved = movedIds(this.slots);
    const seen = new Set();
    const scrolled = this.list.scrollTop;
    this.root.classList.toggle("grouped", this.isGrouped);
    this.list.replaceChildren(
      ...this.slots.map((slot, position) => {
        const copy = slot.layer !== null && seen.has(slot.layer);
        seen.add(slot.layer);
        return this.chip(slot, position, moved.has(slot.id) && !copy, copy);
      }),
    );
    this.list.scrollTop = scrolled;
    this.renderTray();
    this.renderSelection();
    const marks = this.list.querySelector(".changed") !== null;
    const costs = this.list.querySelector(".costly") !== null;
    this.hint.textContent = this.lifted ? LIFTED : [marks ? MARKS : REST, costs ? COST : ""].join(" ").trim();
    this.hint.title = KEYS;
    if (focusWasHere) this.focus();
    if (this.menuId !== null) this.indexOf(this.menuId) < 0 ? this.closeMenu(false) : this.drawMenu();
  }

  chip(slot, position, moved, copy) {
    const item = element("li", { class: `wide-${columns(slot, this.isGrouped)}` });
    const chosen = this.selected.has(slot.id);
    const cost = slot.layer === null ? undefined : this.damage[slot.layer];
    const marks = [moved && "moved", copy && "repeated", changesOf(slot), cost?.[1], chosen && "selected"].filter(Boolean);
    const chip = element("button", {
      type: "button",
      class: "chip",
      tabindex: slot.id === this.focusId ? "0" : "-1",
      "aria-label": [slot.spoken, `position ${position}`, ...marks].join(", "),
      "aria-haspopup": "dialog",
      "aria-keyshortcuts": "Enter Delete Space Shift+Space Shift+ArrowLeft Shift+ArrowRight",
    });
    chip.append(element("span", {}, this.isGrouped && slot.index !== null ? slot.name.slice(1) : slot.name));
    const said = slot.note || this.isGrouped ? slot.spoken : "";
    const beside = slot.note ? slot.spoken : `${slot.spoken}: they read the same input`;
    chip.title = slot.index === null ? beside : said;
    chip.classList.toggle("round", this.isGrouped && slot.layer !== null && slot.layer % 10 === 0);
    if (slot.note) chip.append(element("small", {}, slot.note));
    if (cost) {
      chip.title = [chip.title === slot.spoken ? "" : chip.title, `${slot.spoken}: ${cost[1]}`].filter(Boolean).join("\n");
      chip.style.setProperty("--cost", `${Math.round(45 * cost[0])}%`);
    }
    chip.classList.toggle("costly", cost !== undefined);
    chip.classList.toggle("changed", moved || copy || slot.note !== "" || slot.layer === null);
    chip.classList.toggle("moved", moved);
    chip.classList.toggle("copy", copy);
    chip.classList.toggle("chosen", chosen);
    chip.classList.toggle("lifted", this.lifted?.id === slot.id);
    chip.classList.toggle("open", this.menuId === slot.id);
    chip.classList.toggle("held", Boolean(this.drag?.on) && this.drag.ids.has(slot.id));
    chip.dataset.id = slot.id;
    const remove = element("button", { type: "button", class: "remove", tabindex: "-1", "aria-hidden": "true" }, "×");
    remove.title = `Delete ${slot.spoken}`;
    remove.onclick = () => this.remove(slot.id);
    item.append(chip, remove);
    return item;
  }

  renderTray() {
    const gone = this.deleted();
    this.trayLabel.textContent = gone.length ? "Deleted. Click or drag back." : "Drop a layer here to delete it.";
    this.trayChips.replaceChildren(
      ...gone.map((layer) => {
        const name = this.isGrouped ? String(layer) : "L" + layer;
        const chip = element("button", { type: "button", class: "chip", "aria-label": `Put L${layer} back` }, name);
        chip.dataset.layer = layer;
        chip.onclick = (event) => event.detail === 0 && this.restore(layer); // keyboard; the mouse is in onUp
        return chip;
      }),
    );
    this.seamButton.hidden = this.seam === null;
    if (this.seam === null) return;
    this.seamButton.textContent = this.seam.label;
    this.seamButton.title = this.seam.help;
    this.seamButton.setAttribute("aria-checked", String(this.seam.on));
  }

  focus() {
    this.list.querySelector(`[data-id="${this.focusId}"]`)?.focus();
  }

  say(message) {
    this.live.textContent = message;
  }

  // Draw controls anew. Where only what they say changes they stay the same elements: a field that is left by a click
  // on a button changes the plan, and the button must still be there when the mouse is let go. Handlers of controls
  // must read them off the event, for they move from one set of elements to the other.
  fill(place, nodes) {
    const active = this.root.getRootNode().activeElement;
    const item = active && place.contains(active) ? active.dataset.item : null;
    const made = element("div");
    made.append(...nodes);
    if (!patch(place, made, active)) place.replaceChildren(...nodes);
    if (!item) return;
    const again = place.querySelector(`[data-item="${item}"]:not(:disabled)`);
    (again ?? place.querySelector("button:not(:disabled)"))?.focus();
  }
}

function patch(place, made, active) {
  const [old, next] = [[...place.querySelectorAll("*")], [...made.querySelectorAll("*")]];
  if (old.length !== next.length || old.some((one, i) => one.dataset.item !== next[i].dataset.item)) return false;
  if (old.some((one, i) => one.tagName !== next[i].tagName)) return false;
  old.forEach((one, i) => {
    for (const { name, value } of next[i].attributes) one.setAttribute(name, value);
    for (const name of ["onclick", "onchange", "disabled"]) one[name] = next[i][name];
    if (next[i].firstChild?.nodeType === Node.TEXT_NODE) one.firstChild.data = next[i].firstChild.data;
  });
  // Behind everything else: a select takes its value from options that have theirs.
  old.forEach((one, i) => "value" in one && one !== active && one.tagName !== "OPTION" && (one.value = next[i].value));
  return true;
}
