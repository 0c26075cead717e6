// The menu of the chosen chip.
const ADAPTER = [["", "On"], [".bare", "Off"]];
const PARTS = [["", "Whole"], [".attn", "Attention"], [".mlp", "MLP"]];

Object.assign(Strip.prototype, {
  // `keeps` leaves the focus on the control of the menu that has it.
  openMenu(id, keeps = false) {
    this.selected.clear();
    this.menuId = this.focusId = this.anchorId = id;
    this.render();
    if (!keeps) this.panel.querySelector("button:not(:disabled)")?.focus();
    this.list.querySelector(".chip.open")?.scrollIntoView({ block: "nearest" });
    this.placeMenu();
  },

  closeMenu(backToChip) {
    if (this.menuId === null) return;
    this.menuId = null;
    this.panel.hidden = true;
    this.render();
    if (backToChip) this.focus();
  },

  drawMenu() {
    const at = this.indexOf(this.menuId);
    const slot = this.slots[at];
    const title = element("h3", {}, `${slot.spoken}, position ${at}`);
    this.panel.hidden = false;
    this.fill(this.panel, [
      title,
      this.moveRow(slot, at),
      ...(slot.index === null ? [] : this.layerRows(slot)),
      this.lookRow(at),
    ]);
    this.placeMenu();
  },

  placeMenu() {
    const chip = this.list.querySelector(".chip.open").getBoundingClientRect();
    const list = this.list.getBoundingClientRect();
    const bottom = Math.min(chip.bottom, list.bottom);
    this.panel.style.top = bottom - this.root.getBoundingClientRect().top + 6 + "px";
  },

  action(label, item, act, attributes = {}) {
    const button = element("button", { type: "button", "data-item": item, ...attributes }, label);
    button.onclick = act;
    return button;
  },

  moveRow(slot, at) {
    const row = element("div", { class: "row" });
    const first = this.action("←", "left", () => this.move(slot.id, at - 1), { "aria-label": "Move earlier" });
    const last = this.action("→", "right", () => this.move(slot.id, at + 1), { "aria-label": "Move later" });
    first.disabled = at === 0;
    last.disabled = at === this.slots.length - 1;
    row.append(first, last, this.action("Repeat", "repeat", () => this.repeat(slot.id)));
    row.append(this.action("Delete", "delete", () => this.eraseFromMenu(slot.id), { class: "delete" }));
    return row;
  },

  eraseFromMenu(id) {
    this.closeMenu(true);
    this.remove(id);
  },

  layerRows(slot) {
    const rows = [this.scaleRow(slot), this.replaceRow(slot)];
    const adapter = this.hasAdapter(slot) ? [this.adapterRow(slot)] : [];
    return slot.mean ? rows : [this.partRow(slot), ...adapter, ...rows]; // a mean is that of a whole layer
  },

  lookRow(at) {
    const row = element("div", { class: "row" });
    row.append(this.action("See it in the lens", "look", () => this.look(at)));
    return row;
  },

  // Another model's layer may have one too, which is only known where it is switched off already.
  hasAdapter(slot) {
    return slot.bare !== "" || (slot.layer !== null && this.adapted.has(slot.layer));
  },

  adapterRow(slot) {
    const row = element("div", { class: "row named", role: "group", "aria-label": "Its adapter" });
    row.append(element("span", {}, "Adapter"));
    for (const [bare, label] of ADAPTER) {
      const act = () => this.rewrite(slot.id, write(slot, { bare }), `${slot.spoken}: adapter ${label.toLowerCase()}.`);
      row.append(this.action(label, "adapter" + bare, act, { "aria-pressed": String(slot.bare === bare) }));
    }
    return row;
  },

  partRow(slot) {
    const parts = element("div", { class: "row", role: "group", "aria-label": "Which half runs" });
    for (const [part, label] of PARTS) {
      const act = () => this.rewrite(slot.id, write(slot, { part }), `${slot.spoken}: ${label}.`);
      parts.append(this.action(label, "part" + part, act, { "aria-pressed": String(slot.part === part) }));
    }
    return parts;
  },

  scaleRow(slot) {
    const input = element("input", { type: "number", step: "0.1", "data-item": "scale", value: slot.scale || "1" });
    input.onchange = ({ currentTarget }) => {
      const scale = Number.isFinite(currentTarget.valueAsNumber) ? String(currentTarget.valueAsNumber) : "1";
      this.rewrite(slot.id, write(slot, { scale }), `${slot.spoken} scaled by ${scale}.`);
    };
    return labelled("Scale its contribution", input);
  },

  replaceRow(slot) {
    const select = element("select", { "data-item": "replace" });
    if (slot.layer === null) select.append(element("option", { value: "" }, slot.spoken + ", itself"));
    for (let layer = 0; layer < this.depth; layer += 1) {
      const option = element("option", { value: layer }, layer === slot.layer ? `L${layer}, itself` : "L" + layer);
      option.selected = layer === slot.layer;
      select.append(option);
    }
    select.onchange = ({ currentTarget: { value } }) => {
      const text = write(slot, { from: "", mean: false, index: Number(value) });
      if (value !== "") this.rewrite(slot.id, text, `${slot.spoken} replaced by L${value}.`);
    };
    return labelled("Replace by", select);
  },
});

function labelled(text, control) {
  const row = element("div", { class: "row" });
  const label = element("label", {}, text);
  label.append(control);
  row.append(label);
  return row;
}
