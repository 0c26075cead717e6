// Sets the size that all others on the page are multiples of (rem). It is set for as long as the tab is there: the
// component may be drawn again at any time.
const root = document.documentElement;
let usual = null; // pixels, as Streamlit's own style sheet has it

export default function ({ data }) {
  if (!root.style.fontSize) usual = parseFloat(getComputedStyle(root).fontSize);
  const wanted = data.times === 1 ? "" : `${usual * data.times}px`;
  if (root.style.fontSize !== wanted) root.style.fontSize = wanted;
  root.toggleAttribute("data-larger", wanted !== ""); // `document.css` makes the sidebar wider
}
