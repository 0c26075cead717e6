// The menu of the chosen chip.
const PARTS = [["", "Whole"], [".attn", "Attention"], [".mlp", "MLP"]];

Object.assign(Strip.prototype, {
  openMenu(id) {
    this.menuId = id;
    this.focusId = id;
    this.render();
    this.panel.querySelector("button:not(:disabled)")?.focus();
  },

  closeMenu(backToChip) {
    if (this.menuId === null) return;
    this.menuId = null;
    this.panel.hidden = true;
    this.render();
    if (backToChip) this.focus();
  },

  drawMenu() {
    const active = this.root.getRootNode().activeElement;
    const remembered = active && this.panel.contains(active) ? active.dataset.item : null;
    const at = this.indexOf(this.menuId);
    const slot = this.slots[at];
    const title = element("h3", {}, `${slot.name}, position ${at + 1} of ${this.slots.length}`);
    this.panel.replaceChildren(title, this.moveRow(slot, at), ...(slot.layer === null ? [] : this.layerRows(slot)));
    const chip = this.list.querySelector(`[data-id="${slot.id}"]`).getBoundingClientRect();
    this.panel.style.top = chip.bottom - this.root.getBoundingClientRect().top + 6 + "px";
    this.panel.hidden = false;
    if (remembered) this.panel.querySelector(`[data-item="${remembered}"]`)?.focus();
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
    const erase = () => {
      this.closeMenu(true);
      this.remove(slot.id);
    };
    row.append(first, last, this.action("Repeat", "repeat", () => this.repeat(slot.id)));
    row.append(this.action("Delete", "delete", erase, { class: "delete" }));
    return row;
  },

  layerRows(slot) {
    const parts = element("div", { class: "row", role: "group", "aria-label": "Which half runs" });
    for (const [part, label] of PARTS) {
      const act = () => this.rewrite(slot.id, write(slot.layer, part, slot.scale), `${slot.name}: ${label}.`);
      parts.append(this.action(label, "part" + part, act, { "aria-pressed": String(slot.part === part) }));
    }
    return [parts, this.scaleRow(slot), this.replaceRow(slot)];
  },

  scaleRow(slot) {
    const input = element("input", { type: "number", step: "0.1", "data-item": "scale", value: slot.scale || "1" });
    input.onchange = () => {
      const scale = Number.isFinite(input.valueAsNumber) ? String(input.valueAsNumber) : "1";
      this.rewrite(slot.id, write(slot.layer, slot.part, scale), `${slot.name} scaled by ${scale}.`);
    };
    return labelled("Scale its contribution", input);
  },

  replaceRow(slot) {
    const select = element("select", { "data-item": "replace" });
    for (let layer = 0; layer < this.depth; layer += 1) {
      const option = element("option", { value: layer }, layer === slot.layer ? `L${layer}, itself` : "L" + layer);
      option.selected = layer === slot.layer;
      select.append(option);
    }
    select.onchange = () =>
      this.rewrite(slot.id, write(select.value, slot.part, slot.scale), `${slot.name} replaced by L${select.value}.`);
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
