// Several chips at once: chosen with Shift or Ctrl and the mouse, or Shift and Space, and changed together.
Object.assign(Strip.prototype, {
  chosen() {
    return this.slots.filter((slot) => this.selected.has(slot.id));
  },

  // Choose everything from the chip where the choice began to this one.
  selectTo(id) {
    const [a, b] = [this.indexOf(this.anchorId), this.indexOf(id)];
    if (a < 0) this.anchorId = id;
    const [first, last] = a < 0 ? [b, b] : [Math.min(a, b), Math.max(a, b)];
    this.select(this.slots.slice(first, last + 1).map((slot) => slot.id), id);
  },

  selectToggle(id) {
    const ids = new Set(this.selected);
    ids.has(id) ? ids.delete(id) : ids.add(id);
    this.anchorId = id;
    this.select(ids, id);
  },

  select(ids, focusId) {
    this.closeMenu(false);
    this.selected = new Set(ids);
    this.focusId = focusId ?? this.focusId;
    this.render();
    const names = this.chosen().map((slot) => slot.spoken);
    const said = names.length > 1 ? `${names[0]} to ${names.at(-1)}, ${names.length} layers` : names.join("");
    this.say(names.length ? `Selected: ${said}. Delete deletes, Shift and arrows move.` : "Nothing selected.");
  },

  clearSelection() {
    this.anchorId = null;
    if (this.selected.size) this.select([]);
  },

  removeSelected() {
    const gone = this.chosen();
    const at = this.indexOf(gone[0].id);
    const slots = this.slots.filter((slot) => !this.selected.has(slot.id));
    [this.selected, this.anchorId] = [new Set(), null];
    this.focusId = slots[Math.min(at, slots.length - 1)]?.id ?? null;
    this.commit(slots, `${counted(gone.length)} deleted. ${slots.length} left.`);
    this.focus();
  },

  // All chosen chips move by as many places; chips that are not chosen close the gaps.
  moveSelected(by) {
    const places = this.chosen().map((slot) => this.indexOf(slot.id));
    const step = Math.max(-places[0], Math.min(this.slots.length - 1 - places.at(-1), by));
    if (step === 0) return;
    const rest = this.slots.filter((slot) => !this.selected.has(slot.id));
    const moved = new Map(places.map((place) => [place + step, this.slots[place]]));
    const slots = this.slots.map((_, place) => moved.get(place) ?? rest.shift());
    this.commit(slots, `${counted(places.length)} moved to position ${places[0] + step} and on.`);
  },

  repeatSelected() {
    const copies = this.chosen().map((slot) => this.slot(slot.text));
    const at = this.indexOf(this.chosen().at(-1).id) + 1;
    this.commit(this.slots.toSpliced(at, 0, ...copies), `${counted(copies.length)} repeated.`);
  },

  scaleSelected(factor) {
    const scaled = (slot) => ({ id: slot.id, ...read(write(slot, { scale: String(factor) })) });
    const slots = this.slots.map((slot) => (this.selected.has(slot.id) && slot.index !== null ? scaled(slot) : slot));
    this.commit(slots, `${counted(this.selected.size)} scaled by ${factor}.`);
  },

  switchSelected(bare, label) {
    const switched = (slot) => ({ id: slot.id, ...read(write(slot, { bare })) });
    const slots = this.slots.map((slot) => (this.switchable(slot) ? switched(slot) : slot));
    this.commit(slots, `${counted(this.selected.size)}: adapter ${label.toLowerCase()}.`);
  },

  switchable(slot) {
    return this.selected.has(slot.id) && !slot.mean && this.hasAdapter(slot);
  },

  renderSelection() {
    const chosen = this.chosen();
    this.selected = new Set(chosen.map((slot) => slot.id));
    this.tools.hidden = chosen.length === 0;
    this.root.classList.toggle("selecting", chosen.length > 0);
    if (!chosen.length) return this.tools.replaceChildren();
    const places = chosen.map((slot) => this.indexOf(slot.id));
    const row = element("div", { class: "row" });
    const left = this.action("←", "left", () => this.moveSelected(-1), { "aria-label": "Move them earlier" });
    const right = this.action("→", "right", () => this.moveSelected(1), { "aria-label": "Move them later" });
    left.disabled = places[0] === 0;
    right.disabled = places.at(-1) === this.slots.length - 1;
    row.append(left, right, this.action("Repeat", "repeat", () => this.repeatSelected()));
    row.append(this.action("Delete", "delete", () => this.removeSelected(), { class: "delete" }));
    const title = element("h3", {}, `${counted(chosen.length)} selected`);
    title.append(this.action("Clear", "clear", () => this.clearSelection(), { class: "quiet" }));
    const adapter = chosen.some((slot) => this.switchable(slot)) ? [this.adaptersRow(chosen)] : [];
    this.fill(this.tools, [title, row, ...adapter, this.scaleAllRow(chosen)]);
  },

  adaptersRow(chosen) {
    const row = element("div", { class: "row named", role: "group", "aria-label": "Their adapters" });
    row.append(element("span", {}, "Adapters"));
    const states = new Set(chosen.filter((slot) => this.switchable(slot)).map((slot) => slot.bare));
    for (const [bare, label] of ADAPTER) {
      const pressed = { "aria-pressed": String(states.size === 1 && states.has(bare)) };
      row.append(this.action(label, "adapter" + bare, () => this.switchSelected(bare, label), pressed));
    }
    return row;
  },

  scaleAllRow(chosen) {
    const scales = new Set(chosen.map((slot) => slot.scale || "1"));
    const value = scales.size === 1 ? [...scales][0] : "";
    const input = element("input", { type: "number", step: "0.1", "data-item": "scale", value, placeholder: "mixed" });
    input.onchange = ({ currentTarget: { valueAsNumber } }) =>
      Number.isFinite(valueAsNumber) && this.scaleSelected(valueAsNumber);
    return labelled("Scale their contributions", input);
  },
});

function counted(count) {
  return count === 1 ? "1 layer" : `${count} layers`;
}
