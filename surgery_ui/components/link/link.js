// Copies a text, or the page's own address with the given query. Where the browser keeps the clipboard to itself
// (a page that is not served over https), it is shown to be copied by hand.
export default function ({ parentElement, data }) {
  const button = parentElement.querySelector("button");
  const label = parentElement.querySelector("span");
  const field = parentElement.querySelector("input");
  const live = parentElement.querySelector(".live");
  const link = () => window.location.origin + window.location.pathname + (data.query ? "?" + data.query : "");
  const wanted = () => data.text ?? link();
  field.hidden = true;
  label.textContent = data.label;
  parentElement.querySelector("svg").style.display = data.text === undefined ? "" : "none";

  button.onclick = async () => {
    const said = (await copied(wanted())) ? data.done : "Copy it from here";
    if (said !== data.done) {
      field.value = wanted();
      field.hidden = false;
      field.select();
    }
    label.textContent = said;
    live.textContent = said;
    setTimeout(() => (label.textContent = data.label), 2000);
  };
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
